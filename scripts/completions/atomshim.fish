# Completion for fish: the commands and options are those that `atomshim --help` and `atomshim COMMAND --help` print.
function __atomshim_options
    set -l command (commandline -opc)[2]
    atomshim $command --help 2>/dev/null | string match -arg -- '(--[a-z-]+)' | sort -u
end
complete -c atomshim -n __fish_use_subcommand -f -a "(atomshim --help | string replace -rf '^(?:usage:)? *atomshim ([a-z-]+).*' '\$1')"
complete -c atomshim -n 'not __fish_use_subcommand; and string match -q -- "-*" (commandline -ct)' -f -a '(__atomshim_options)'
