/** Completion for zsh, with what each command and flag is for. */
import type { CompletedFlag, CompletedPlace } from "./completion.ts";
import { quoteFor } from "./shell.ts";

export const zshCompletion = (places: readonly CompletedPlace[]): string =>
  `#compdef spire spire-server spire-agent
# zsh completion for spire, spire-server and spire-agent

_spire_commands() {
  case $1 in
${cases(places, ({ commands }) => commands.map(({ name, summary }) => `${name}:${summary}`))}
  (*) reply=() ;;
  esac
}

_spire_flags() {
  case $1 in
${cases(places, ({ flags }) => flags.map(describe))}
  (*) reply=() ;;
  esac
}

_spire() {
  local place= at=2
  local -a reply
  case \${words[1]:t} in
  (spire-server) place=server ;;
  (spire-agent) place=agent ;;
  esac
  while (( at < CURRENT )); do
    _spire_commands "$place"
    (( \${reply[(I)\${(b)words[at]}:*]} )) || break
    place=\${place:+$place }\${words[at]}
    (( at++ ))
  done
  if (( at == CURRENT )) && [[ \${words[CURRENT]} != -* ]]; then
    _spire_commands "$place"
    if (( $#reply )); then
      _describe command reply
      return
    fi
  fi
  _spire_flags "$place"
  words=("\${words[1]}" "\${(@)words[at,-1]}")
  (( CURRENT -= at - 2 ))
  _arguments $reply '*: :_default'
}

if [[ $funcstack[1] == _spire ]]; then
  _spire "$@"
else
  compdef _spire spire spire-server spire-agent
fi
`;

const cases = (places: readonly CompletedPlace[], itemsOf: (place: CompletedPlace) => string[]): string =>
  places
    .filter((place) => itemsOf(place).length > 0)
    .map((place) => {
      const items = itemsOf(place).map((item) => `    ${quoteFor("posix", item)}\n`);
      return `  ('${place.path}') reply=(\n${items.join("")}  ) ;;`;
    })
    .join("\n");

/** As \`_arguments\` wants it: any flag may be repeated, none excludes another. */
function describe({ name, usage, takesValue, choices }: CompletedFlag): string {
  const what = usage.replace(/[[\]:\\]/g, "\\$&");
  if (!takesValue) return `*-${name}[${what}]`;
  return `*-${name}=[${what}]:${name}:${choices.length > 0 ? `(${choices.join(" ")})` : "_default"}`;
}
