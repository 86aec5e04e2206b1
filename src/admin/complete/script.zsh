#compdef PROGRAM
# Completes PROGRAM in zsh; made by: mentiko completions zsh --for PROGRAM

_PROGRAM() {
    local -a found names
    local line word
    found=("${(@f)$(command mentiko complete --for PROGRAM -- "${(@Q)words[2,CURRENT]}" 2>/dev/null)}")
    case ${found[1]-} in
        words)
            for line in "${(@)found[2,-1]}"; do
                word=${line%%$'\t'*}
                names+=("${word//:/\\:}${${line#*$'\t'}:+:${line#*$'\t'}}")
            done
            (($#names)) && _describe -V PROGRAM names
            ;;
        files) compset -P '*='; _files ;;
        folders) compset -P '*='; _files -/ ;;
        users) compset -P '*='; _users ;;
        groups) compset -P '*='; _groups ;;
        command\ *)
            shift $((${found[1]#command } + 1)) words
            ((CURRENT -= ${found[1]#command } + 1))
            _normal
            ;;
    esac
}

# Loaded by compinit, or read by `source`.
if [[ $funcstack[1] == _PROGRAM ]]; then
    _PROGRAM "$@"
else
    compdef _PROGRAM PROGRAM
fi
