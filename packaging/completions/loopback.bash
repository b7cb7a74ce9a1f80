# SPDX-License-Identifier: Apache-2.0
# bash completion for loopback(8). What there is to complete is read from the program's own --help, so that it is always its own.

_loopback()
{
	local program=$1 current=$2 previous=$3 word help command=

	COMPREPLY=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || { command=$word; break; }
	done
	if [[ $previous == --*@(file|ca) ]]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
	fi
	help=$("$program" ${command:+"$command"} --help 2>/dev/null) || return
	if [[ $current == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  \(--[a-z-]*\).*/\1/p' <<<"$help")" -- "$current")
	elif [[ -z $command ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  \([a-z-]*\) .*/\1/p' <<<"$help" | sort -u)" -- "$current")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
	fi
}

complete -o filenames -F _loopback loopback
