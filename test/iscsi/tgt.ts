/** Targets of a real tgtd, as real initiators see them. */
import { randomFillSync } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import t, { type Test } from 'tap'
import { type Cluster, MiB, type Pool } from '../../lib/index.js'
import { type Config, readConfig } from '../../src/config.js'
import { openTgt, type Target, type TargetDriver } from '../../src/iscsi/driver.js'
import { TgtDriver } from '../../src/iscsi/tgt.js'
import { TgtControl, type TgtRequest } from '../../src/iscsi/tgt-control.js'
import { parseTargets } from '../../src/iscsi/tgt-show.js'
import { iqnOf } from '../../src/names.js'
import { defaultIqnPrefix } from '../../src/settings.js'
import { until } from '../support/broker.js'
import { run, testCluster } from '../support/cluster.js'
import { testFolder } from '../support/golden.js'
import { Attached, capacity, discover, identity, initiate, initiator, Tgt } from '../support/tgt.js'

const other = 'iqn.2001-07.org.openhvx:host:two'
const chap = { user: 'initiator-1', password: 'twelve-to-16' }
const mutual = { user: 'target-1', password: 'sixteen-digits16' }
const login = `${chap.user}%${chap.password}`

let images = 0

interface Site {
  pool: Pool
  tgt: Tgt
  config: Config
  driver: TargetDriver
}

function driverOf(config: Config, signal = new AbortController().signal): TargetDriver {
  return openTgt(config, new Set([defaultIqnPrefix]), signal)
}

async function newSite(t: Test, cluster: Cluster): Promise<Site> {
  const pool = await cluster.openPool('rbd')
  t.teardown(() => pool.close())
  const tgt = await Tgt.start(t)
  const config = readConfig({ ...process.env, BROKER_URL: 'amqp://nowhere', ...tgt.environment })
  return { pool, tgt, config, driver: driverOf(config) }
}

/** An image, and the target that it may have. */
async function newTarget(t: Test, { pool, driver }: Site, given: Partial<Target> = {}): Promise<Target> {
  const name = `iscsi-${process.pid}-${++images}`
  await pool.createImage(name, { size: 16 * MiB })
  t.teardown(async () => {
    await driver.remove(iqnOf(defaultIqnPrefix, name), true)
    await pool.removeImage(name)
  })
  return {
    iqn: iqnOf(defaultIqnPrefix, name),
    poolName: pool.name,
    name,
    identity: { serial: `serial-${name}`, naa: `6${name.replace(/\D/g, '').padStart(31, '0')}` },
    access: { initiators: [], addresses: [] },
    chap: null,
    disk: { blockSize: 512, writeCache: true, discard: true },
    portals: [],
    ...given,
  }
}

/** Of a driver whose requests the test has its hands in. */
function optionsOf({ config }: Site) {
  return { portal: config.iscsi.portals[0], ceph: config.ceph, prefixes: new Set([defaultIqnPrefix]) }
}

/** Looks, after each request, for targets that let somebody in without a password. */
class WatchingControl extends TgtControl {
  readonly open: string[] = []
  /** The target from which accounts and rules are taken late, so that what is done for others comes between. */
  slow: number | undefined

  override async ask(request: TgtRequest): Promise<string> {
    const isLate = request.operation === 'unbind' && request.tid === this.slow
    if (isLate) await delay(request.mode === 'account' ? 200 : 60)
    const answer = await super.ask(request)
    if (request.operation === 'show') return answer
    const targets = parseTargets(await super.ask({ mode: 'target', operation: 'show' }))
    const open = targets.filter(({ incoming, allowed }) => incoming.length === 0 && allowed.length > 0)
    this.open.push(...open.map(({ iqn }) => iqn))
    return answer
  }
}

const refusedLogin = { message: /Authentication failure/ }
const notFound = { message: /Target not found/ }

t.test('targets of tgtd', async t => {
  const cluster = await testCluster(t)
  const site = await newSite(t, cluster)
  const { driver, tgt, pool } = site

  await t.test('is found, and has a disk of the size of the image', async t => {
    const target = await newTarget(t, site)
    t.equal(await driver.ensure(target), false, 'it was not there')
    t.same(await discover(tgt), [target.iqn])
    t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB)
    t.match(await driver.list(), [{ iqn: target.iqn, sessions: [] }])
    t.same(await driver.portals(), [{ ip: '127.0.0.1', port: tgt.port }])
  })

  await t.test('is made once', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const before = await tgt.adm('target', 'show')
    t.same(await driver.differing([target]), [])
    t.equal(await driver.ensure(target), true)
    t.equal(await tgt.adm('target', 'show'), before)
  })

  await t.test('is made once by two at once', async t => {
    const target = await newTarget(t, site)
    const made = await Promise.all([driver.ensure(target), driverOf(site.config).ensure(target)])
    t.same(made.sort(), [false, true])
    t.same((await tgt.names()).filter(name => name === target.iqn).length, 1)
    t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB)
  })

  await t.test('tells initiators which disk it is, for ever', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const first = await identity(tgt.url(target.iqn))
    t.equal(first.serial, target.identity.serial)
    t.match(first.page83.replace(/[\s:]/g, ''), target.identity.naa)
    await driver.remove(target.iqn, false)
    await driver.ensure(target)
    t.same(await identity(tgt.url(target.iqn)), first)
  })

  await t.test('with a password is for those who know it', async t => {
    const target = await newTarget(t, site, { chap })
    await driver.ensure(target)
    t.equal(await capacity(tgt.url(target.iqn, { login })), 16 * MiB)
    for (const wrong of ['', `${chap.user}%wrong-password`, `another-user%${chap.password}`]) {
      await t.rejects(capacity(tgt.url(target.iqn, { login: wrong })), refusedLogin, wrong)
    }
  })

  await t.test('with two passwords shows one itself', async t => {
    const target = await newTarget(t, site, { chap: { ...chap, mutual } })
    await driver.ensure(target)
    const url = (password: string) =>
      `${tgt.url(target.iqn, { login })}?target_user=${mutual.user}&target_password=${password}`
    t.equal(await capacity(url(mutual.password)), 16 * MiB)
    await t.rejects(capacity(url('not-the-one-16')), 'one that shows another is no target of this initiator')
  })

  await t.test('has another password when it is to', async t => {
    const target = await newTarget(t, site, { chap })
    const beside = await newTarget(t, site, { chap })
    await driver.ensure(target)
    await driver.ensure(beside)
    const changed = { ...chap, password: 'another-pass-1' }
    await driver.ensure({ ...target, chap: changed })
    await driver.ensure({ ...beside, chap: changed })
    for (const { iqn } of [target, beside]) {
      t.equal(await capacity(tgt.url(iqn, { login: `${chap.user}%${changed.password}` })), 16 * MiB)
      await t.rejects(capacity(tgt.url(iqn, { login })), refusedLogin)
    }
    await driver.ensure({ ...target, chap: null })
    t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB, 'and none')
  })

  await t.test('has the password that it should, whatever a driver before has set', async t => {
    const target = await newTarget(t, site, { chap: { ...chap, password: 'forgotten-pass' } })
    await driver.ensure(target)
    const later = driverOf(site.config)
    t.same((await later.differing([{ ...target, chap }])).length, 1, 'tgtd does not show it, so it is set again')
    await later.ensure({ ...target, chap })
    t.same(await later.differing([{ ...target, chap }]), [])
    t.equal(await capacity(tgt.url(target.iqn, { login })), 16 * MiB)
  })

  await t.test('leaves an account alone that is of somebody else', async t => {
    await tgt.adm('target', 'new', '--tid', '5', '--targetname', 'iqn.2020-01.org.example:foreign')
    await tgt.adm('account', 'new', '--user', 'their-user', '--password', 'their-password')
    await tgt.adm('account', 'bind', '--tid', '5', '--user', 'their-user')
    const target = await newTarget(t, site, { chap: { user: 'their-user', password: 'our-password-1' } })
    await t.rejects(driver.ensure(target), { code: 'CHAP_USER_TAKEN', message: /their-user.*org.example:foreign/ })
    t.notOk((await tgt.names()).includes(target.iqn), 'and is not left half made')
    t.match(await tgt.adm('target', 'show'), /Account information:\n {8}their-user\n/)
    await tgt.adm('target', 'delete', '--tid', '5')
    await tgt.adm('account', 'delete', '--user', 'their-user')
  })

  await t.test('is for initiators that are named', async t => {
    const target = await newTarget(t, site, { access: { initiators: [initiator], addresses: [] } })
    await driver.ensure(target)
    t.ok((await discover(tgt)).includes(target.iqn))
    t.notOk((await discover(tgt, other)).includes(target.iqn), 'others do not even find it')
    t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB)
    await t.rejects(initiate('iscsi-readcapacity16', '-i', other, tgt.url(target.iqn)), notFound)
    await driver.ensure({ ...target, access: { initiators: [other], addresses: [] } })
    await t.rejects(capacity(tgt.url(target.iqn)), notFound)
    t.match(await initiate('iscsi-readcapacity16', '-i', other, tgt.url(target.iqn)), /Total size/)
  })

  await t.test('is for addresses that are named', async t => {
    const at = (address: string) => ({ initiators: [], addresses: [address] })
    const target = await newTarget(t, site, { access: at('127.0.0.1') })
    await driver.ensure(target)
    t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB)
    for (const [address, isOurs] of [
      ['10.1.2.3', false],
      ['127.0.0.0/8', true],
      ['10.0.0.0/8', false],
    ] as const) {
      await driver.ensure({ ...target, access: at(address) })
      if (isOurs) t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB, address)
      else await t.rejects(capacity(tgt.url(target.iqn)), notFound, address)
    }
  })

  await t.test('is for addresses of version 6, too', async t => {
    const six = await Tgt.start(t, '[::1]')
    const config = readConfig({ ...process.env, BROKER_URL: 'amqp://nowhere', ...six.environment })
    const other = { ...site, tgt: six, driver: driverOf(config) }
    const target = await newTarget(t, other)
    for (const [address, isOurs] of [
      ['::1', true],
      ['2001:db8::/32', false],
      ['10.0.0.0/8', false],
    ] as const) {
      await other.driver.ensure({ ...target, access: { initiators: [], addresses: [address] } })
      if (isOurs) t.equal(await capacity(six.url(target.iqn)), 16 * MiB, address)
      else await t.rejects(capacity(six.url(target.iqn)), notFound, address)
    }
    t.same(await other.driver.portals(), [{ ip: '127.0.0.1', port: six.port }])
  })

  await t.test('shows the new size of an image, and other targets notice nothing', async t => {
    const target = await newTarget(t, site)
    const beside = await newTarget(t, site)
    await driver.ensure(target)
    await driver.ensure(beside)
    const neighbour = await Attached.open(t, tgt.url(beside.iqn))
    const before = await driver.sessions(beside.iqn)
    const user = await Attached.open(t, tgt.url(target.iqn))
    await user.do('write -P 7 0 64k')
    const image = await pool.openImage(target.name)
    await image.resize(24 * MiB)
    await image.close()
    t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB, 'tgtd does not see it by itself')
    await driver.refreshSize(target, 24 * MiB)
    t.equal(await capacity(tgt.url(target.iqn)), 24 * MiB)
    t.match(await user.do('read -P 7 0 64k'), /^read 65536\/65536/m, 'who was logged in goes on')
    t.match(await neighbour.do('write -P 1 0 4k'), /wrote 4096/)
    t.same(await driver.sessions(beside.iqn), before, 'the same session as before')
    t.equal((await identity(tgt.url(target.iqn))).serial, target.identity.serial)
    const shown = await tgt.adm('target', 'show')
    await driver.refreshSize(target, 24 * MiB)
    t.equal(await tgt.adm('target', 'show'), shown, 'and nothing is done where the size is right')
  })

  await t.test('does not go while an initiator is logged in, unless forced', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    await Attached.open(t, tgt.url(target.iqn))
    const [session] = (await driver.sessions(target.iqn)) ?? []
    t.match(session, { initiator: /^iqn\.2008-11\.org\.linux-kvm/, addresses: ['127.0.0.1'] })
    await t.rejects(driver.remove(target.iqn, false), {
      code: 'TARGET_BUSY',
      retryable: true,
      blockers: [{ kind: 'initiator', name: session?.initiator }],
    })
    t.match(await driver.sessions(target.iqn), { length: 1 })
    t.equal(await driver.remove(target.iqn, true), true)
    t.notOk((await tgt.names()).includes(target.iqn))
    t.equal(await driver.remove(target.iqn, true), false, 'nor is it there any more')
  })

  await t.test('holds what an initiator has written, byte for byte', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const content = randomFillSync(Buffer.alloc(16 * MiB))
    const file = join(await testFolder(t), 'disk.raw')
    await writeFile(file, content)
    await run('qemu-img', 'convert', '-n', '-f', 'raw', '-O', 'raw', file, tgt.url(target.iqn))
    const image = await pool.openImage(target.name, { readOnly: true })
    t.ok((await image.read(0, 16 * MiB)).equals(content))
    await image.close()
  })

  await t.test('has the blocks and the discard that are asked for, and takes a page without a cache', async t => {
    const target = await newTarget(t, site, { disk: { blockSize: 4096, writeCache: false, discard: false } })
    await driver.ensure(target)
    const printed = await initiate('iscsi-readcapacity16', tgt.url(target.iqn))
    t.match(printed, /BLOCK LENGTH IN BYTES:4096/)
    t.match(printed, /LBPME:0/)
  })

  await t.test('leaves targets alone that do not have our prefix', async t => {
    const foreign = 'iqn.2020-01.org.example:theirs'
    await tgt.adm('target', 'new', '--tid', '7', '--targetname', foreign)
    t.notOk((await driver.list()).some(({ iqn }) => iqn === foreign))
    await tgt.adm('target', 'delete', '--tid', '7')
  })

  await t.test('takes the id of a target that is taken for another one', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const [, tid = ''] = new RegExp(`Target (\\d+): ${target.iqn}`).exec(await tgt.adm('target', 'show')) ?? []
    await driver.remove(target.iqn, false)
    await tgt.adm('target', 'new', '--tid', tid, '--targetname', 'iqn.2020-01.org.example:squatter')
    await driver.ensure(target)
    t.equal(await capacity(tgt.url(target.iqn)), 16 * MiB)
    t.same((await tgt.names()).includes('iqn.2020-01.org.example:squatter'), true)
    await tgt.adm('target', 'delete', '--tid', tid)
  })

  await t.test('mends what was cut short', async t => {
    const target = await newTarget(t, site, { chap, access: { initiators: [initiator], addresses: [] } })
    await driver.ensure(target)
    const [, tid = ''] = new RegExp(`Target (\\d+): ${target.iqn}`).exec(await tgt.adm('target', 'show')) ?? []
    const cuts: [what: string, args: string[]][] = [
      ['the unit is gone', ['logicalunit', 'delete', '--tid', tid, '--lun', '1']],
      ['it is closed', ['target', 'update', '--tid', tid, '--name', 'state', '--value', 'offline']],
      ['nobody is allowed', ['target', 'unbind', '--tid', tid, '--initiator-name', initiator]],
      ['there is no password', ['account', 'unbind', '--tid', tid, '--user', chap.user]],
    ]
    for (const [what, [mode = '', op = '', ...args]] of cuts) {
      await tgt.adm(mode, op, ...args)
      t.same((await driver.differing([target])).length, 1, what)
      await driver.ensure(target)
      t.equal(await capacity(tgt.url(target.iqn, { login })), 16 * MiB, `${what}: and it works again`)
      await t.rejects(capacity(tgt.url(target.iqn)), refusedLogin, `${what}: for nobody else`)
    }
  })

  await t.test('with a password is open to nobody without it, whoever else gets another one meanwhile', async t => {
    const targets = [await newTarget(t, site, { chap }), await newTarget(t, site, { chap })]
    for (const target of targets) await driver.ensure(target)
    const later = { ...chap, password: 'another-pass-1' }
    const control = new WatchingControl(site.config.iscsi.tgt, new AbortController().signal)
    for (const { tid, iqn } of parseTargets(await tgt.adm('target', 'show'))) {
      if (!targets.some(target => target.iqn === iqn)) continue
      control.slow = tid
      // One that knows no passwords, as an agent that has just begun, so each target gets its account anew.
      const starting = new TgtDriver({ ...optionsOf(site), control })
      await Promise.all(targets.map(target => starting.ensure({ ...target, chap: later })))
      t.same(control.open, [], 'none had rules and no account')
      for (const { iqn } of targets) {
        t.equal(await capacity(tgt.url(iqn, { login: `${later.user}%${later.password}` })), 16 * MiB)
        await t.rejects(capacity(tgt.url(iqn)), refusedLogin)
      }
    }
  })

  await t.test('whose image cannot be opened again has initiators wait, and tells them no errors', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    const user = await Attached.open(t, tgt.url(target.iqn))
    await user.do('write -P 7 0 64k')
    await pool.renameImage(target.name, `${target.name}-away`)
    await t.rejects(driver.refreshSize(target, 24 * MiB), { code: 'ISCSI_REFUSED', message: /cannot open/ })
    t.match(await driver.sessions(target.iqn), { length: 0 })
    t.match(await tgt.adm('target', 'show'), new RegExp(`: ${target.iqn}\\n.*\\n.*\\n +State: offline`))
    const reading = user.do('read -P 7 0 64k')
    t.equal(await Promise.race([reading, delay(3_000, 'waiting')]), 'waiting')
    await pool.renameImage(`${target.name}-away`, target.name)
    t.same((await driver.differing([target])).length, 1)
    await driver.ensure(target)
    t.match(await reading, /^read 65536\/65536/m)
  })

  await t.test('believes nothing while an initiator tells stories', async t => {
    const target = await newTarget(t, site)
    await driver.ensure(target)
    await tgt.adm('target', 'new', '--tid', '5', '--targetname', 'iqn.2020-01.org.example:theirs')
    const story = `iqn.2020-01.org.example:liar\nTarget 5: ${defaultIqnPrefix}to-be-removed`
    const liar = await Attached.openAs(t, story, tgt, target.iqn)
    t.match(await tgt.adm('target', 'show'), /^Target 5: .*to-be-removed/m, 'tgtd shows what it was told')
    await t.rejects(driver.list(), { code: 'ISCSI_REFUSED', message: /several lines/ })
    await t.rejects(driver.remove(`${defaultIqnPrefix}to-be-removed`, true), { code: 'ISCSI_REFUSED' })
    await liar.close()
    await until('the end of the session', async () => (await driver.list().catch(() => [])).length > 0)
    t.ok((await tgt.names()).includes('iqn.2020-01.org.example:theirs'))
    await tgt.adm('target', 'delete', '--tid', '5')
  })

  await t.test('waits for a tgtd that does not answer, until nobody wants it to', async t => {
    const ended = new AbortController()
    const waiting = driverOf(site.config, ended.signal)
    tgt.signal('SIGSTOP')
    const listing = waiting.list()
    const removing = waiting.remove(iqnOf(defaultIqnPrefix, 'whatever'), false)
    ended.abort()
    await t.rejects(listing, { code: 'ISCSI_NO_ANSWER', retryable: true })
    await t.rejects(removing, { code: 'ISCSI_NO_ANSWER' }, 'which is not: there is none')
    tgt.signal('SIGCONT')
    t.same(await driver.list(), [])
  })

  await t.test('says what is wrong', async t => {
    const target = await newTarget(t, site)
    await t.rejects(driver.ensure({ ...target, name: 'missing' }), {
      code: 'ISCSI_REFUSED',
      message: /cannot open rbd\/missing/,
    })
    await t.rejects(driver.ensure({ ...target, iqn: `${defaultIqnPrefix}a_b` }), {
      code: 'ISCSI_REFUSED',
      message: /a_b/,
    })
    await t.rejects(driver.ensure({ ...target, poolName: 'a,b' }), { code: 'ISCSI_REFUSED', message: /comma/ })
    t.same(await driver.list(), [], 'and nothing is left')
    const secret = { ...target, chap: { user: 'x,y', password: 'not-to-be-seen' } }
    const error = await driver.ensure(secret).catch(error => error)
    t.notOk(JSON.stringify([error, error.message, error.stack]).includes('not-to-be-seen'))
  })

  await t.test('says when tgtd has begun anew in the middle', async t => {
    class Restarting extends TgtControl {
      override async ask(request: TgtRequest): Promise<string> {
        if (request.mode === 'device' && request.operation === 'new') {
          await tgt.kill()
          await tgt.start()
        }
        return super.ask(request)
      }
    }
    const target = await newTarget(t, site, { chap })
    const control = new Restarting(site.config.iscsi.tgt, new AbortController().signal)
    const restarting = new TgtDriver({ ...optionsOf(site), control })
    await t.rejects(restarting.ensure(target), { code: 'ISCSI_DOWN', retryable: true })
    t.same(await tgt.names(), [])
    await driver.ensure(target)
    t.equal(await capacity(tgt.url(target.iqn, { login })), 16 * MiB, 'and knows that the new one has no passwords')
  })

  await t.test('says that there is no tgtd', async t => {
    const target = await newTarget(t, site)
    await tgt.kill()
    await t.rejects(driver.ensure(target), { code: 'ISCSI_DOWN', retryable: true })
    await t.rejects(driver.list(), { code: 'ISCSI_DOWN' })
    t.equal(await driver.remove(target.iqn, false), false, 'then there is no target, either')
    await tgt.start()
    t.same(await driver.list(), [])
  })
})
