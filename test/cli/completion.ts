/** What bash offers, asked of bash itself. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import t from 'tap'
import { cephkit } from '../support/command.js'

/** Has bash complete the last of the words, as it splits them: at blanks and at `=`. */
const asker = `
complete_words() {
  COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMP_LINE="$*"; COMP_POINT=\${#COMP_LINE}
  compopt() { :; } # has a meaning only while readline asks
  _cephkit
  printf '%s\\n' "\${COMPREPLY[@]}"
}
`

t.test('completion for bash', async t => {
  const { stdout: script, code } = await cephkit(['completion', 'bash'])
  t.equal(code, 0)
  const folder = t.testdir({ 'stack one': {}, file: '' })
  const offers = async (...words: string[]) => {
    const run = ['-c', `${script}\n${asker}\ncomplete_words "$@"`, 'bash', 'cephkit', ...words]
    const { stdout } = await promisify(execFile)('bash', run, { cwd: folder })
    return stdout.split('\n').filter(word => word !== '')
  }

  await t.test('offers the commands', async t => {
    const all = await offers('')
    for (const word of ['agent', 'catalog', 'completion', 'dev', 'doctor', '--help', '--version'])
      t.ok(all.includes(word), word)
    t.same(await offers('do'), ['doctor'])
  })

  await t.test('offers what commands within a command have', async t => {
    t.same((await offers('dev', '')).filter(word => !word.startsWith('-')).sort(), [
      'down',
      'env',
      'help',
      'status',
      'up',
    ])
    t.same(
      await offers('dev', 'up', '--ra'),
      ['--radosgw', '--rabbitmq'].filter(word => word.startsWith('--ra')),
    )
    t.notOk((await offers('dev', 'down', '--')).includes('--osds'))
  })

  await t.test('offers the values that an option or an argument can have', async t => {
    t.same(await offers('dev', 'up', '--store', ''), ['memstore', 'bluestore'])
    t.same(await offers('dev', 'up', '--store', '=', 'b'), ['bluestore'], 'also after --store=')
    t.same(await offers('completion', ''), ['bash', 'zsh', 'fish'])
    t.same(await offers('dev', 'up', '--osds', ''), [], 'not where it may be any')
  })

  await t.test('offers folders where there has to be one', async t => {
    t.same(await offers('dev', 'up', '--dir', 's'), ['stack one'])
    t.same(await offers('dev', 'up', '--dir', 'f'), [])
  })

  await t.test('takes no value for a command', async t => {
    const words = await offers('dev', 'status', '--dir', 'up', '--')
    t.ok(words.includes('--json'))
    t.notOk(words.includes('--osds'))
  })

  await t.test('offers what the help has, for each command', async t => {
    for (const path of [['agent'], ['dev', 'up'], ['doctor'], ['catalog', 'import']]) {
      const { stdout: help } = await cephkit([...path, '--help'])
      const flags = [...help.matchAll(/^ {2}(?:-\w, )?(--[\w-]+)/gm)].map(([, flag]) => flag)
      t.ok(flags.length > 0)
      const all = await offers(...path, '--')
      t.same(
        flags.filter(flag => flag && !all.includes(flag)),
        [],
        path.join(' '),
      )
    }
  })
})

t.test('completion for zsh and fish has every command, too', async t => {
  for (const shell of ['zsh', 'fish']) {
    const { stdout } = await cephkit(['completion', shell])
    for (const word of ['doctor', 'rabbitmq', 'bluestore']) t.match(stdout, word)
  }
  const { code, stderr } = await cephkit(['completion', 'csh'])
  t.equal(code, 1)
  t.match(stderr, 'bash, zsh, fish')
})
