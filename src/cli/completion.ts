import { Argument, type Command, type Option } from 'commander'

const shells = ['bash', 'zsh', 'fish'] as const
type Shell = (typeof shells)[number]

/** What may stand for the value of an option, or for an argument. */
type Values = { words: readonly string[] } | 'files' | 'folders' | 'anything'

interface Word {
  word: string
  description: string
}

interface OptionWords {
  /** `--dir`, and `-d` if it has that too. */
  flags: string[]
  description: string
  /** Undefined: it takes none. */
  values: Values | undefined
}

/** A command, as a shell needs it. */
interface CommandWords {
  /** Such as `dev up`; the program itself is ''. */
  path: string
  commands: Word[]
  options: OptionWords[]
  /** What its first argument may be. */
  values: Values | undefined
}

/** `cephkit completion`: all from the commands themselves, as they were added to the program. */
export function addCompletionCommand(program: Command): void {
  program
    .command('completion')
    .description('print what makes a shell complete the commands, options and values of cephkit')
    .addArgument(new Argument('<shell>').choices(shells))
    .addHelpText(
      'after',
      `
Examples:
  $ source <(cephkit completion bash)                                            # in ~/.bashrc
  $ cephkit completion zsh > "\${fpath[1]}/_cephkit"                              # once
  $ cephkit completion fish > ~/.config/fish/completions/cephkit.fish            # once`,
    )
    .action((shell: Shell) => {
      process.stdout.write(completionScript(program, shell))
    })
}

export function completionScript(program: Command, shell: Shell): string {
  return { bash, zsh, fish }[shell](wordsOf(program, ''))
}

function wordsOf(command: Command, path: string): CommandWords[] {
  const help = command.createHelp()
  const commands = help.visibleCommands(command)
  const [argument] = command.registeredArguments
  const own: CommandWords = {
    path,
    commands: commands.map(each => ({ word: each.name(), description: help.subcommandDescription(each) })),
    options: help.visibleOptions(command).map(option => ({
      flags: [option.long, option.short].filter(flag => flag !== undefined && flag !== null),
      description: option.description,
      values: takesValue(option) ? valuesOf(option.argChoices, option.flags) : undefined,
    })),
    values: argument && valuesOf(argument.argChoices, `${argument.name()} ${argument.description}`),
  }
  return [own, ...commands.flatMap(each => wordsOf(each, `${path} ${each.name()}`.trim()))]
}

function takesValue({ required, optional }: Option): boolean {
  return required || optional
}

/** @param text - What the help says of the value, such as `--dir <folder>`. */
function valuesOf(choices: readonly string[] | undefined, text: string): Values {
  if (choices) return { words: choices }
  return /\bfolder\b/i.test(text) ? 'folders' : /\bfile\b/i.test(text) ? 'files' : 'anything'
}

/** The words of the table that are followed by a value, each with the path of its command. */
function valued(table: CommandWords[]): { path: string; flags: string[]; values: Values }[] {
  return table.flatMap(({ path, options }) =>
    options.flatMap(({ flags, values }) => (values === undefined ? [] : [{ path, flags, values }])),
  )
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

/** `'dev up --dir' | 'dev up -d'` */
function patterns(path: string, words: readonly string[]): string {
  return words.map(word => quote(`${path} ${word}`)).join(' | ')
}

/** What follows `case "$at $word" in`: how the words before the cursor lead to a command. */
function steps(table: CommandWords[], skipValue: string): string {
  const commands = table.filter(({ path }) => path !== '').map(({ path }) => quote(withParent(path)))
  return [
    `      ${commands.join(' | ')}) at="\${at:+$at }$word" ;;`,
    ...valued(table).map(({ path, flags }) => `      ${patterns(path, flags)}) ${skipValue} ;;`),
  ].join('\n')
}

/** The parent's path, a space, and the command's name: the program's own path is ''. */
function withParent(path: string): string {
  return path.includes(' ') ? path : ` ${path}`
}

function bash(table: CommandWords[]): string {
  const offer = (values: Values) =>
    typeof values === 'object'
      ? `_cephkit_offer -W ${quote(values.words.join(' '))}`
      : { files: '_cephkit_files -f', folders: '_cephkit_files -d', anything: ':' }[values]
  const cases = valued(table).map(
    ({ path, flags, values }) => `    ${patterns(path, flags)}) ${offer(values)}; return ;;`,
  )
  const words = table.map(({ path, commands, options, values }) => {
    const all = [...commands.map(({ word }) => word), ...options.flatMap(({ flags }) => flags)]
    const rest = values === undefined ? '' : `[[ $cur == -* ]] || { ${offer(values)}; return; }; `
    return `    ${quote(path)}) ${rest}_cephkit_offer -W ${quote(all.join(' '))} ;;`
  })
  return `# Completion of cephkit for bash. In ~/.bashrc: source <(cephkit completion bash)
_cephkit_offer() { mapfile -t COMPREPLY < <(compgen "$@" -- "$cur"); }
_cephkit_files() { compopt -o filenames; _cephkit_offer "$@"; }
_cephkit() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD - 1]} at='' word i
  # bash has split --option=value in three.
  [[ $prev == = ]] && prev=\${COMP_WORDS[COMP_CWORD - 2]}
  [[ $cur == = ]] && cur=''
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    case "$at $word" in
${steps(table, '((i++))')}
    esac
  done
  COMPREPLY=()
  case "$at $prev" in
${cases.join('\n')}
  esac
  case "$at" in
${words.join('\n')}
  esac
}
complete -F _cephkit cephkit
`
}

function zsh(table: CommandWords[]): string {
  const offer = (values: Values) =>
    typeof values === 'object'
      ? `compadd -- ${values.words.map(quote).join(' ')}`
      : { files: '_files', folders: '_files -/', anything: '_message value' }[values]
  const cases = valued(table).map(
    ({ path, flags, values }) => `    ${patterns(path, flags)}) ${offer(values)}; return ;;`,
  )
  const described = ({ word, description }: Word) => quote(`${word.replaceAll(':', '\\:')}:${description}`)
  const items = table.map(({ path, commands, options, values }) => {
    const flags = options.flatMap(({ flags, description }) => flags.map(word => ({ word, description })))
    const rest = values === undefined ? '' : `[[ $words[CURRENT] == -* ]] || { ${offer(values)}; return }; `
    return `    ${quote(path)}) ${rest}items=(${[...commands, ...flags].map(described).join(' ')}) ;;`
  })
  return `#compdef cephkit
# Completion of cephkit for zsh. Once: cephkit completion zsh > "\${fpath[1]}/_cephkit"
_cephkit() {
  local at='' word i
  local -a items
  for ((i = 2; i < CURRENT; i++)); do
    word=$words[i]
    case "$at $word" in
${steps(table, '((i++))')}
    esac
  done
  case "$at $words[CURRENT - 1]" in
${cases.join('\n')}
  esac
  case "$at" in
${items.join('\n')}
  esac
  _describe 'command or option' items
}
if [[ $funcstack[1] == _cephkit ]]; then _cephkit "$@"; else compdef _cephkit cephkit; fi
`
}

function fish(table: CommandWords[]): string {
  const offer = (values: Values | undefined) => {
    if (values === undefined) return ''
    if (typeof values === 'object') return ` -x -a ${quote(values.words.join(' '))}`
    return { files: ' -r -F', folders: " -x -a '(__fish_complete_directories)'", anything: ' -x' }[values]
  }
  const lines = table.flatMap(({ path, commands, options, values }) => {
    const start = `complete -c cephkit -n ${quote(`__cephkit_at ${quote(path)}`)}`
    const flags = (names: string[]) =>
      names.map(name => (name.startsWith('--') ? `-l ${name.slice(2)}` : `-s ${name.slice(1)}`)).join(' ')
    return [
      ...commands.map(({ word, description }) => `${start} -a ${word} -d ${quote(description)}`),
      ...options.map(
        option => `${start} ${flags(option.flags)}${offer(option.values)} -d ${quote(option.description)}`,
      ),
      ...(values === undefined ? [] : [`${start}${offer(values)}`]),
    ]
  })
  const commands = table.filter(({ path }) => path !== '').map(({ path }) => quote(withParent(path)))
  const skipped = valued(table).flatMap(({ path, flags }) => flags.map(flag => quote(`${path} ${flag}`)))
  return `# Completion of cephkit for fish. Once: cephkit completion fish > ~/.config/fish/completions/cephkit.fish
function __cephkit_at
  set -l at
  set -l skip 0
  for word in (commandline -opc)[2..-1]
    if test $skip = 1
      set skip 0
      continue
    end
    switch "$at $word"
      case ${commands.join(' ')}
        set at (string trim -- "$at $word")
      case ${skipped.join(' ')}
        set skip 1
    end
  end
  test "$at" = "$argv[1]"
end
complete -c cephkit -f
${lines.join('\n')}
`
}
