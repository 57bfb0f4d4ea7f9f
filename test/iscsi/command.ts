/** `cephkit iscsi`, beside an agent that works. */
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { MiB } from '../../lib/index.js'
import { TestSite, until } from '../support/broker.js'
import { Attached, capacity, initiator, Tgt } from '../support/tgt.js'

const cli = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url))

t.test('cephkit iscsi', async t => {
  const site = await TestSite.open(t)
  const tgt = await Tgt.start(t)
  const agent = await site.startAgent(tgt.environment)
  const cephkit = async (args: string[], settings: Record<string, string> = {}) => {
    const env = { ...site.environment, ...tgt.environment, ...settings }
    const { stdout } = await promisify(execFile)(process.execPath, [cli, 'iscsi', ...args], { env })
    return stdout
  }
  t.equal(await cephkit(['list']), 'no volumes are exposed\n')
  const { disk } = await site.succeed(site.job('storage.create', { name: 'disk', sizeMB: 16 }))
  const pool = site.environment.CEPH_DEFAULT_POOL

  await t.test('list names each volume that is exposed', async t => {
    t.equal(await cephkit(['list']), `${disk.refId}  ${pool}/${disk.name}  0 sessions  everybody\n`)
    t.match(JSON.parse(await cephkit(['list', '--json'])), [
      {
        iqn: disk.refId,
        pool,
        image: disk.name,
        id: disk.id,
        portals: [{ ip: '127.0.0.1', port: tgt.port }],
        isServed: true,
        sessions: [],
        chap: 'settings',
      },
    ])
  })

  await t.test('expose says to whom, with passwords that no argument has', async t => {
    const password = 'by-variable-1'
    const args = ['expose', disk.name, '--initiator', initiator, '--chap', 'by-command']
    t.match(JSON.parse(await cephkit(args, { CHAP_PASSWORD: password })), { iqn: disk.refId, lun: 1 })
    t.equal(await capacity(tgt.url(disk.refId, { login: `by-command%${password}` })), 16 * MiB)
    await t.rejects(capacity(tgt.url(disk.refId)))
    await t.rejects(cephkit(args), { message: /CHAP_PASSWORD is not set/ })
    const listed = await cephkit(['list', '--json'])
    t.match(JSON.parse(listed), [{ initiators: [initiator], chap: { user: 'by-command' } }])
    t.notOk(listed.includes(password))
    await cephkit(['expose', disk.refId, '--no-chap'])
    t.equal(await capacity(tgt.url(disk.refId)), 16 * MiB)
  })

  await t.test('sessions names those who are logged in', async t => {
    t.equal(await cephkit(['sessions']), 'nobody is logged in\n')
    await site.succeed(site.job('storage.expose', { refId: disk.refId, addresses: ['127.0.0.1'] }))
    const attached = await Attached.open(t, tgt.url(disk.refId))
    t.match(await cephkit(['sessions', disk.name]), new RegExp(`^${disk.refId} {2}iqn\\S+ {2}127\\.0\\.0\\.1\n$`))
    t.match(JSON.parse(await cephkit(['sessions', '--json'])), [{ iqn: disk.refId, addresses: ['127.0.0.1'] }])
    await t.rejects(cephkit(['sessions', 'other']), { message: /other is not exposed/ })
    await t.rejects(cephkit(['unexpose', disk.name]), { message: /TARGET_BUSY/ })
    await attached.close()
    await until('the end of the session', async () => (await cephkit(['sessions'])) === 'nobody is logged in\n')
  })

  await t.test('list says what is missing', async t => {
    await tgt.kill()
    t.equal(await cephkit(['list']), `${disk.refId}  ${pool}/${disk.name}  missing  ${initiator},127.0.0.1\n`)
    await tgt.start()
    await until('the target', async () => (await cephkit(['list'])).includes('0 sessions'))
  })

  await t.test('unexpose takes it away', async t => {
    t.match(JSON.parse(await cephkit(['unexpose', disk.name])), { targetDeleted: true })
    t.same(await tgt.names(), [])
    t.equal(await cephkit(['list']), 'no volumes are exposed\n')
  })

  await t.test('cephkit audit finds a target that nobody has in a list, and removes it', async t => {
    const left = 'iqn.2001-07.org.openhvx:acme-left-12345678'
    const audit = async (args: string[], settings: Record<string, string> = {}) => {
      const env = { ...site.environment, ...tgt.environment, ...settings }
      const running = promisify(execFile)(process.execPath, [cli, 'audit', '--json', ...args], { env })
      // It ends with 1 when anything is found.
      return JSON.parse((await running.catch(error => error)).stdout)
    }
    await agent.stop()
    t.same(await audit([]), [])
    await tgt.adm('target', 'new', '--tid', '7', '--targetname', left)
    t.match(await audit([]), [{ kind: 'target', name: left, fixable: true }])
    t.same(await audit([], { ISCSI_DRIVER: 'none' }), [])
    t.match(await audit(['--fix']), [{ kind: 'target', fixed: true }])
    t.same(await tgt.names(), [])
  })

  await t.test('cephkit doctor looks at tgtd', async t => {
    const finding = async (settings: Record<string, string> = {}) => {
      const env = { ...site.environment, ...tgt.environment, ...settings }
      const running = promisify(execFile)(process.execPath, [cli, 'doctor', '--json'], { env })
      // It ends with 1 when anything is wrong, which the test's broker may be.
      const { stdout } = await running.catch(error => error)
      const { findings } = JSON.parse(stdout) as { findings: { check: string; state: string; todo?: string }[] }
      return findings.find(({ check }) => check === 'iscsi')
    }
    t.match(await finding(), { state: 'ok', says: new RegExp(`127\\.0\\.0\\.1:${tgt.port}$`) })
    t.match(await finding({ TGT_CONTROL_PORT: '77' }), { state: 'wrong', todo: /ISCSI_DRIVER=none/ })
    t.equal(await finding({ ISCSI_DRIVER: 'none' }), undefined)
  })

  await t.test('says when volumes are not exposed at all', async t => {
    await t.rejects(cephkit(['list'], { ISCSI_DRIVER: 'none' }), { message: /ISCSI_DRIVER is none/ })
    await t.rejects(cephkit(['list'], { CEPH_TARGET_PASSWORD: 'not-shown-pw-1' }), {
      message: /CEPH_TARGET_USER is not set/,
    })
  })
})
