#compdef loopback
# SPDX-License-Identifier: Apache-2.0
# zsh completion for loopback(8). What there is to complete is read from the program's own --help, so that it is always its own.

local command help line
local -a found

for line in "${(@)words[2,CURRENT-1]}"; do
	[[ $line == -* ]] || { command=$line; break }
done
if [[ ${words[CURRENT-1]} == --*(file|ca) ]]; then
	_files
	return
fi
help=$(_call_program help ${words[1]} $command --help) || return
if [[ ${words[CURRENT]} == -* ]]; then
	for line in ${(M)${(f)help}:#  --*}; do
		found+=("${${=line}[1]}:${line[31,-1]}")
	done
	_describe option found
elif [[ -z $command ]]; then
	for line in ${(M)${(f)help}:#  [a-z]*}; do
		found+=("${${=line}[1]}:${line[38,-1]}")
	done
	_describe command found
else
	_files
fi
