#!/usr/bin/env zsh
# complete.zsh FOLDER LINE: prints the words that zsh, on a terminal, offers for the last word of
# LINE when Tab is pressed, one on each line; FOLDER has the completion functions.
emulate -R zsh
zmodload zsh/zpty
export OFFERED=$(mktemp) FOLDER=$1

zpty shell zsh -f -i
zpty -w shell 'PS1= PS2= fpath=($FOLDER $fpath); autoload -Uz compinit; compinit -D -u
compadd() { local -a hits; builtin compadd -A hits "$@"; print -rl -- $hits >>$OFFERED; builtin compadd "$@"; }
press() { zle complete-word; BUFFER=exit; zle accept-line; }
zle -N press; bindkey "^I" press; print re""ady'
while zpty -r shell line && [[ $line != ready* ]]; do :; done
zpty -w -n shell "$2"$'\t'
while zpty -r shell line; do :; done
sort -u "$OFFERED"
rm "$OFFERED"
