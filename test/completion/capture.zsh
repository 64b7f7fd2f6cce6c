# Prints what an interactive zsh offers for a line: capture.zsh COMPLETION-SCRIPT LINE
zmodload zsh/zpty
zpty shell zsh -f -i

# An interactive shell prints back what it reads; only what stands between the marks counts.
setup='
PROMPT= RPROMPT= PS2=
setopt no_beep
autoload -Uz compinit; compinit -u -D
source '${(q)1}'
zstyle ":completion:*" insert-tab false
bindkey "^I" complete-word
begin() { print "mark""-begin" }
finish() { print "mark""-end"; exit }
compprefuncs=(begin)
comppostfuncs=(finish)
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then
    builtin compadd "$@"
    return
  fi
  local -a offered
  builtin compadd -A offered "$@"
  (( $#offered )) && print -rl -- ${(@)offered/#/offer:}
  builtin compadd "$@"
}
print "mark""-ready"
'
file=$(mktemp)
print -r -- $setup >$file
zpty -w shell "source $file"
zpty -r -m shell line '*mark-ready*' || exit 1
zpty -n -w shell "$2"$'\t'
output=
while zpty -r shell line; do output+=$line; done
rm -f $file
for line in ${(f)output}; do
  line=${line//$'\r'/}
  [[ $line == *offer:* ]] && print -r -- ${line##*offer:}
done
exit 0
