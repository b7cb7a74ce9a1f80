#compdef loopbackctl
# SPDX-License-Identifier: Apache-2.0
# zsh completion for loopbackctl(1). What there is to complete is read from the program's own --help, so that it is always its own.

local help line
local -a given found

for line in "${(@)words[2,CURRENT-1]}"; do
	[[ $line == -* ]] || given+=($line)
done
if [[ ${words[CURRENT-1]} == --*(file|pub|ca|out|root|old|new|keyset|after|key) ]]; then
	_files
	return
fi
# an option's value is not a noun or a verb: two words at most are asked about
help=$(_call_program help ${words[1]} ${given[1,2]} --help) || help=$(_call_program help ${words[1]} ${given[1]} --help) || return
if [[ ${words[CURRENT]} == -* ]]; then
	for line in ${(M)${(f)help}:#  --*}; do
		found+=("${${=line}[1]}:${line[31,-1]}")
	done
	_describe option found
elif (( ${#given} == 0 )); then
	for line in ${(M)${(f)help}:#  [a-z]*}; do
		found+=("${${=line}[1]}")
	done
	found=(${(u)found})
	_describe noun found
elif (( ${#given} == 1 )); then
	for line in ${(M)${(f)help}:#  [a-z]*}; do
		found+=("${${=line}[2]}:${line[38,-1]}")
	done
	_describe verb found
else
	_files
fi
