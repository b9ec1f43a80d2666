"""Shell completion: scripts that complete the commands, and the options that their --help lists."""

from collections.abc import Sequence

_BASH = r"""_maskserve() {
    local word=${COMP_WORDS[COMP_CWORD]}
    if [ "$COMP_CWORD" -eq 1 ]; then
        COMPREPLY=($(compgen -W "@COMMANDS@ --help --version" -- "$word"))
    elif [[ $word == -* ]]; then
        local options
        options=$(maskserve "${COMP_WORDS[1]}" --help | grep -oE -- '--[a-z0-9-]+' | sort -u)
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    fi
}
complete -o default -F _maskserve maskserve
"""

_ZSH = r"""# after compinit: source <(maskserve completion zsh)
_maskserve() {
    if (( CURRENT == 2 )); then
        compadd -- @COMMANDS@ --help --version
    elif [[ $words[CURRENT] == -* ]]; then
        compadd -- $(maskserve $words[2] --help | grep -oE -- '--[a-z0-9-]+' | sort -u)
    else
        _files
    fi
}
compdef _maskserve maskserve
"""

_FISH = r"""complete -c maskserve -n __fish_use_subcommand -f -a "@COMMANDS@ --help --version"
complete -c maskserve -n 'not __fish_use_subcommand; and string match -q -- "-*" (commandline -ct)' \
    -a "(maskserve (commandline -opc)[2] --help | string match -ar -- '--[a-z0-9-]+' | sort -u)"
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
SHELLS = tuple(_SCRIPTS)


def completion(shell: str, commands: Sequence[str]) -> str:
    """Return the script for a shell.

    Args:
        shell: One of `SHELLS`.
        commands: Names of the commands.
    """
    return _SCRIPTS[shell].replace("@COMMANDS@", " ".join(commands))
