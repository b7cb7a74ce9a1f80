# SPDX-License-Identifier: Apache-2.0
# bash completion for loopbackctl(1). What there is to complete is read from the program's own --help, so that it is always its own.

_loopbackctl()
{
	local program=$1 current=$2 previous=$3 word help
	local -a given=()

	COMPREPLY=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || given+=("$word")
	done
	if [[ $previous == --* && $previous == *@(file|pub|ca|out|root|old|new|keyset|after|key) ]]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
	fi
	# an option's value is not a noun or a verb: two words at most are asked about
	help=$("$program" "${given[@]:0:2}" --help 2>/dev/null) || help=$("$program" "${given[@]:0:1}" --help 2>/dev/null) || return
	if [[ $current == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  \(--[a-z-]*\).*/\1/p' <<<"$help")" -- "$current")
	elif ((${#given[@]} == 0)); then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  \([a-z]*\) .*/\1/p' <<<"$help" | sort -u)" -- "$current")
	elif ((${#given[@]} == 1)); then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  [a-z]* \([a-z-]*\) .*/\1/p' <<<"$help" | sort -u)" -- "$current")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
	fi
}

complete -o filenames -F _loopbackctl loopbackctl
