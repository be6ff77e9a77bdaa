# Completion for bash: the commands and options are those that `atomshim --help` and `atomshim
# COMMAND --help` print.
_atomshim() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} command=${COMP_WORDS[1]} i
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(atomshim --help | sed -n 's/^\(usage:\)\{0,1\} *atomshim \([a-z-]*\).*/\2/p') --help --version" -- "$current")
        return
    fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [ "$command" = run ] && [ "${COMP_WORDS[i]}" = -- ]; then
            _command_offset $((i + 1)) 2>/dev/null || mapfile -t COMPREPLY < <(compgen -A command -A file -- "$current")
            return
        fi
    done
    case $previous in
    --isolation) mapfile -t COMPREPLY < <(compgen -W 'commit session' -- "$current") ;;
    --log) mapfile -t COMPREPLY < <(compgen -W 'error warn info debug' -- "$current") ;;
    --rescue-dir) mapfile -t COMPREPLY < <(compgen -A directory -- "$current") ;;
    *)
        case $current in
        -*) mapfile -t COMPREPLY < <(compgen -W "$(atomshim "$command" --help 2>/dev/null | sed '/^example: /d' | grep -oE -- '--[a-z-]+' | sort -u)" -- "$current") ;;
        *) mapfile -t COMPREPLY < <(compgen -A file -- "$current") ;;
        esac
        ;;
    esac
}
complete -o filenames -F _atomshim atomshim
