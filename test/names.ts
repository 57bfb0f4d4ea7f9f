import { createHash } from 'node:crypto'
import t from 'tap'
import { imageName, imageOf, iqnOf, prefixOf } from '../src/names.js'
import { defaultIqnPrefix as iqnPrefix } from '../src/settings.js'

const hash = (taskId: string) => createHash('sha256').update(taskId).digest('hex').slice(0, 8)
const named = (tenantId: string, name: string, taskId = 'task') => imageName({ taskId, tenantId, name }, iqnPrefix)

t.test('the name of an image', async t => {
  const cases: [what: string, tenantId: string, name: string, base: string][] = [
    ['is the tenant and the name', 'acme', 'web', 'acme-web'],
    ['has the tenant once when the name begins with it', 'acme', 'acme-web', 'acme-web'],
    ['has the tenant once when the name is it', 'acme', 'acme', 'acme'],
    ['has the tenant when the name only begins with the same letters', 'acme', 'acmeweb', 'acme-acmeweb'],
    ['keeps letters, digits, dots, underscores and dashes', 'Ac.me_1', 'Web-2', 'Ac.me_1-Web-2'],
    ['has a dash for anything else', 'acme', 'my web/1@x', 'acme-my-web-1-x'],
    ['has one dash for a run of them', 'acme', 'a -- \t b---c', 'acme-a-b-c'],
    ['has no dash at the ends of its parts', '-acme-', '  web! ', 'acme-web'],
    ['has a dash for what is not ASCII', 'acme', 'größe😀x', 'acme-gr-e-x'],
    ['finds the tenant again once both are normal', 'ac me', 'ac me/web', 'ac-me-web'],
  ]
  for (const [what, tenantId, name, base] of cases) {
    t.equal(named(tenantId, name), `${base}-${hash('task')}`, what)
  }
})

t.test('the name of an image follows from the task', async t => {
  t.equal(named('acme', 'web', 'one'), named('acme', 'web', 'one'))
  t.not(named('acme', 'web', 'one'), named('acme', 'web', 'two'))
})

t.test('a name that cannot be is refused', async t => {
  t.throws(() => named('acme', '///'), { code: 'INVALID_JOB', message: /^name has none/ })
  t.throws(() => named('--', 'web'), { code: 'INVALID_JOB', message: /^tenantId has none/ })
  const longest = 223 - 'iqn.2001-07.org.openhvx:'.length - 'acme-'.length - '-12345678'.length
  t.equal(iqnOf(iqnPrefix, named('acme', 'n'.repeat(longest))).length, 223, 'an iqn can be this long')
  t.throws(() => named('acme', 'n'.repeat(longest + 1)), { code: 'INVALID_JOB', message: /1 characters too long/ })
})

t.test('an iqn and an image stand for each other', async t => {
  const image = named('acme', 'web')
  t.equal(iqnOf(iqnPrefix, image), `iqn.2001-07.org.openhvx:${image}`)
  t.equal(imageOf(iqnOf(iqnPrefix, image)), image)
  t.equal(imageOf(image), image, 'as does the image itself')
  for (const other of ['iqn.2001-07.org.openhvx', 'iqn.2001-07.org.openhvx:', 'iqn.']) {
    t.throws(() => imageOf(other), { code: 'INVALID_JOB' }, other)
  }
})

t.test('a volume keeps the name that it was given under another prefix', t => {
  const image = named('acme', 'my_vm')
  const former = 'iqn.2020-02.com.example.rack-1:'
  t.equal(imageOf(iqnOf(former, image)), image)
  t.equal(prefixOf(iqnOf(former, image)), former)
  t.equal(prefixOf(former), undefined)
  t.ok(iqnOf('iqn.2020-02.com.example:', named('acme', 'web')).length < iqnOf(former, named('acme', 'web')).length)
  const fits = 'n'.repeat(223 - iqnPrefix.length - 'acme-'.length - '-12345678'.length)
  const longer = { taskId: 'task', tenantId: 'acme', name: fits }
  t.throws(() => imageName(longer, former), { message: /7 characters too long/ }, 'the prefix counts, too')
  t.end()
})
