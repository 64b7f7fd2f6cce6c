/** Completion for bash, without its package of completion functions. */
import type { CompletedFlag, CompletedPlace } from "./completion.ts";

export const bashCompletion = (places: readonly CompletedPlace[]): string =>
  `# bash completion for spire, spire-server and spire-agent

_spire_commands() {
  case $1 in
${cases(places, ({ commands }) => commands.map(({ name }) => name))}
  *) REPLY= ;;
  esac
}

# "-name" is a switch, "-name=" takes a value, "-name=a,b" one of these.
_spire_flags() {
  case $1 in
${cases(places, ({ flags }) => flags.map(describe))}
  *) REPLY= ;;
  esac
}

_spire() {
  local REPLY word flag values at=1 place= words=
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]}
  COMPREPLY=()
  case \${COMP_WORDS[0]##*/} in
  spire-server) place=server ;;
  spire-agent) place=agent ;;
  esac
  while ((at < COMP_CWORD)); do
    _spire_commands "$place"
    [[ " $REPLY " == *" \${COMP_WORDS[at]} "* ]] || break
    place=\${place:+$place }\${COMP_WORDS[at]}
    at=$((at + 1))
  done
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    if [[ $word == -- ]]; then
      compopt -o default
      return
    fi
  done
  # bash makes three words of "-output=json".
  if [[ $current == "=" ]]; then
    current=
  elif [[ $previous == "=" ]]; then
    previous=\${COMP_WORDS[COMP_CWORD-2]}
  fi
  _spire_flags "$place"
  for word in $REPLY; do
    flag=\${word%%=*}
    if [[ $word == *=* && ( $previous == "$flag" || $previous == "-$flag" ) ]]; then
      values=\${word#*=}
      if [[ -n $values ]]; then
        COMPREPLY=($(compgen -W "\${values//,/ }" -- "$current"))
      else
        compopt -o default
      fi
      return
    fi
    if [[ $current == --* ]]; then
      words="$words -$flag"
    else
      words="$words $flag"
    fi
  done
  if ((at == COMP_CWORD)) && [[ $current != -* ]]; then
    _spire_commands "$place"
    if [[ -n $REPLY ]]; then
      words=$REPLY
    elif [[ -n $current ]]; then
      compopt -o default
    fi
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}

complete -F _spire spire spire-server spire-agent
`;

const cases = (places: readonly CompletedPlace[], wordsOf: (place: CompletedPlace) => string[]): string =>
  places
    .filter((place) => wordsOf(place).length > 0)
    .map((place) => `  '${place.path}') REPLY='${wordsOf(place).join(" ")}' ;;`)
    .join("\n");

const describe = ({ name, takesValue, choices }: CompletedFlag): string =>
  takesValue ? `-${name}=${choices.join(",")}` : `-${name}`;
