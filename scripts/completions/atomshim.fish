# Completion for fish: the commands and options are those that `atomshim --help` and `atomshim
# COMMAND --help` print.
function __atomshim_options
    set -l command (commandline -opc)[2]
    atomshim $command --help 2>/dev/null | string match -v 'example: *' | string match -arg -- '(--[a-z-]+)' | sort -u
end
# Tells whether the words before the cursor belong to a program that `atomshim run` starts, or are
# the value of an option.
function __atomshim_is_program
    string match -q -- run (commandline -opc)[2]; and contains -- -- (commandline -opc)
end
function __atomshim_is_behind
    not __atomshim_is_program; and string match -q -- $argv[1] (commandline -opc)[-1]
end
function __atomshim_program
    set -l words (commandline -opc) (commandline -ct)
    set -l at (contains -i -- -- $words)
    complete -C (string join -- ' ' $words[(math $at + 1)..-1])
end
complete -c atomshim -n __fish_use_subcommand -f -a "(atomshim --help | string replace -rf '^(?:usage:)? *atomshim ([a-z-]+).*' '\$1') --help --version"
complete -c atomshim -n 'not __fish_use_subcommand; and not __atomshim_is_program; and string match -q -- "-*" (commandline -ct)' -f -a '(__atomshim_options)'
complete -c atomshim -n __atomshim_is_program -f -a '(__atomshim_program)'
complete -c atomshim -n '__atomshim_is_behind --isolation' -f -a 'commit session'
complete -c atomshim -n '__atomshim_is_behind --log' -f -a 'error warn info debug'
complete -c atomshim -n '__atomshim_is_behind --rescue-dir' -f -a '(__fish_complete_directories)'
