# SPDX-License-Identifier: Apache-2.0
# bash completion for loopbackctl(1) and loopback(8). What there is to complete is read from the programs' own --help, so that it is always theirs.

_loopback_cli()
{
	local program=$1 current=$2 previous=$3 word options
	local -a given=()

	COMPREPLY=()
	for word in "${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
		[[ $word == -* ]] || given+=("$word")
	done

	if [[ $previous == --* && $previous == *@(file|pub|ca|out|root|old|new|keyset|after) ]]; then
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
		return
	fi
	# an option's value is not a noun or a verb: two words at most are asked about
	options=$("$program" "${given[@]:0:2}" --help 2>/dev/null) || options=$("$program" "${given[@]:0:1}" --help 2>/dev/null) || return
	if [[ $current == -* ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  \(--[a-z-]*\).*/\1/p' <<<"$options")" -- "$current")
	elif ((${#given[@]} == 0)); then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  \([a-z]*\) .*/\1/p' <<<"$options" | sort -u)" -- "$current")
	elif ((${#given[@]} == 1)) && [[ ${program##*/} == loopbackctl ]]; then
		mapfile -t COMPREPLY < <(compgen -W "$(sed -n 's/^  [a-z]* \([a-z-]*\) .*/\1/p' <<<"$options" | sort -u)" -- "$current")
	else
		mapfile -t COMPREPLY < <(compgen -f -- "$current")
	fi
}


complete -o filenames -F _loopback_cli loopback
