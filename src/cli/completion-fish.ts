/** Completion for fish, with what each command and flag is for. */
import type { CompletedFlag, CompletedPlace } from "./completion.ts";
import { quoteFor } from "./shell.ts";

const quote = (text: string): string => quoteFor("fish", text);

export const fishCompletion = (places: readonly CompletedPlace[]): string =>
  `# fish completion for spire, spire-server and spire-agent

function __spire_commands
    switch "$argv[1]"
${places
  .filter(({ commands }) => commands.length > 0)
  .map(
    ({ path, commands }) =>
      `        case '${path}'\n            printf '%s\\n' ${commands.map(({ name }) => name).join(" ")}\n`,
  )
  .join("")}    end
end

# Where in the tree of commands the words so far lead.
function __spire_place
    set -l words (commandline -opc)
    set -l place
    switch (basename -- $words[1])
        case spire-server
            set place server
        case spire-agent
            set place agent
    end
    for word in $words[2..]
        contains -- $word (__spire_commands "$place"); or break
        set -a place $word
    end
    echo "$place"
end

# Whether only commands were given so far, and which lead there.
function __spire_after
    set -l words (commandline -opc)
    test "$argv[1]" = (__spire_place); or return
    string match -q -- '-*' $words[2..]; and return 1
    return 0
end

function __spire_within
    test "$argv[1]" = (__spire_place)
end

for program in spire spire-server spire-agent
${places.flatMap(linesOf).join("")}end
`;

function linesOf({ path, commands, flags }: CompletedPlace): readonly string[] {
  const at = (condition: string) => `    complete -c $program -n "${condition} '${path}'"`;
  return [
    ...commands.map(({ name, summary }) => `${at("__spire_after")} -f -a ${name} -d ${quote(summary)}\n`),
    ...flags.map((flag) => `${at("__spire_within")} ${optionOf(flag)} -d ${quote(flag.usage)}\n`),
  ];
}

/** Flags have one hyphen, whatever their length. */
function optionOf({ name, takesValue, choices }: CompletedFlag): string {
  const option = name.length === 1 ? `-s ${name}` : `-o ${name}`;
  if (!takesValue) return option;
  return choices.length > 0 ? `${option} -x -a ${quote(choices.join(" "))}` : `${option} -r`;
}
