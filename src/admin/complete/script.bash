# Completes PROGRAM in bash; made by: mentiko completions bash --for PROGRAM

_FUNCTION() {
    local IFS=$'\n' current=${COMP_WORDS[COMP_CWORD]} line
    local -a found
    mapfile -t found < <(command mentiko complete --for PROGRAM -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    # bash takes what stands before = for a word of its own.
    [[ $current == "=" ]] && current=""
    COMPREPLY=()
    case ${found[0]-} in
        words)
            for line in "${found[@]:1}"; do
                COMPREPLY+=("${line%%$'\t'*}")
            done
            ;;
        files) compopt -o filenames && COMPREPLY=($(compgen -f -- "$current")) ;;
        folders) compopt -o filenames && COMPREPLY=($(compgen -d -- "$current")) ;;
        users) COMPREPLY=($(compgen -u -- "$current")) ;;
        groups) COMPREPLY=($(compgen -g -- "$current")) ;;
        command\ *)
            local start=$((${found[0]#command } + 1))
            if declare -F _comp_command_offset >/dev/null; then
                IFS=$' \t\n' _comp_command_offset "$start"
            elif declare -F _command_offset >/dev/null; then
                IFS=$' \t\n' _command_offset "$start"
            elif ((COMP_CWORD == start)); then
                COMPREPLY=($(compgen -c -- "$current"))
            else
                compopt -o filenames && COMPREPLY=($(compgen -f -- "$current"))
            fi
            ;;
    esac
}
complete -F _FUNCTION PROGRAM
