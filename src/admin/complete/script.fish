# Completes PROGRAM in fish; made by: mentiko completions fish --for PROGRAM

function __FUNCTION_candidates
    set -l words (commandline --current-process --tokenize --cut-at-cursor)
    set -l current (commandline --current-token --cut-at-cursor)
    set -l found (command mentiko complete --for PROGRAM -- $words[2..] $current 2>/dev/null)
    set -l value (string replace --regex '^--[^=]*=' '' -- $current)
    set -l option (string match --regex '^--[^=]*=' -- $current)
    switch "$found[1]"
        case words
            string join \n -- $found[2..]
        case files
            __fish_complete_path "$value" | string replace --regex '^' "$option"
        case folders
            __fish_complete_directories "$value" '' | string replace --regex '^' "$option"
        case users
            __fish_complete_users | string replace --regex '^' "$option"
        case groups
            __fish_complete_groups | string replace --regex '^' "$option"
        case 'command *'
            set -l start (math (string replace 'command ' '' -- $found[1]) + 2)
            set -l line (string escape -- $words[$start..] | string join ' ')
            complete --do-complete (string trim --left -- "$line $current")
    end
end

complete --command PROGRAM --no-files --arguments '(__FUNCTION_candidates)'
