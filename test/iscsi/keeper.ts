/** Several who look after the targets of one tgtd, entries that should not be, and names that change. */
import { randomUUID } from 'node:crypto'
import { pino } from 'pino'
import t, { type Test } from 'tap'
import { AbortError, type Cluster, MiB, type Pool } from '../../lib/index.js'
import { readTargetConfig } from '../../src/config.js'
import type { Exposure } from '../../src/iscsi/exposure.js'
import { identityOf, isElsewhere } from '../../src/iscsi/identity.js'
import { TargetKeeper } from '../../src/iscsi/keeper.js'
import { iqnOf } from '../../src/names.js'
import { until } from '../support/broker.js'
import { run, testCluster } from '../support/cluster.js'
import { capacity, identity, initiate, Tgt } from '../support/tgt.js'

const iqnPrefix = 'iqn.2001-07.org.openhvx:'
const laterPrefix = 'iqn.2020-02.com.example:'
const chap = { user: 'initiator-1', password: 'twelve-to-16' }

let images = 0

class Site {
  readonly cluster: Cluster
  readonly pool: Pool
  readonly tgt: Tgt
  readonly agent = `agent-${randomUUID()}`
  /** What has been logged. */
  readonly said: string[] = []

  private constructor(cluster: Cluster, pool: Pool, tgt: Tgt) {
    this.cluster = cluster
    this.pool = pool
    this.tgt = tgt
  }

  /** @param tgt - Default: one of its own. */
  static async open(t: Test, tgt?: Tgt): Promise<Site> {
    const cluster = await testCluster(t)
    const name = `keeper-${process.pid}-${randomUUID()}`
    await cluster.createPool(name)
    t.teardown(() => cluster.deletePool(name))
    const pool = await cluster.openPool(name)
    t.teardown(() => pool.close())
    await pool.initialize()
    return new Site(cluster, pool, tgt ?? (await Tgt.start(t)))
  }

  /** As a process of the agent has it; it does not look by itself. */
  keeper(settings: Record<string, string> = {}): TargetKeeper {
    const config = readTargetConfig({
      ...process.env,
      ...this.tgt.environment,
      CEPH_DEFAULT_POOL: this.pool.name,
      STORAGE_CONTROLLER_AGENT_ID: this.agent,
      ...settings,
    })
    const log = pino({ level: 'debug' }, { write: line => this.said.push(line) })
    const keeper = TargetKeeper.of({ config, cluster: this.cluster, log })
    if (keeper === undefined) throw new Error('ISCSI_DRIVER is none')
    return keeper
  }

  /** Of an image of its own, as the settings have it. */
  async exposure(given: Partial<Exposure> = {}): Promise<Exposure> {
    const name = `disk-${++images}`
    await this.pool.createImage(name, { size: 16 * MiB })
    await using image = await this.pool.openImage(name, { readOnly: true })
    const { id } = await image.stat()
    return {
      ...{ poolName: this.pool.name, name, id, iqn: iqnOf(iqnPrefix, name), isClosed: false },
      ...{ initiators: [], addresses: [], chap: 'settings' },
      ...{ disk: { blockSize: 512, writeCache: true, discard: false }, task: 'task', begunAt: 'once' },
      ...given,
    }
  }

  /** Of the agent, as it is in the cluster. */
  async setEntry(name: string, text: string): Promise<void> {
    await using pool = await this.cluster.openPool(this.pool.name, { namespace: 'cephkit.iscsi' })
    await pool.object(`exposed/${this.agent}`).setOmap({ [`${this.pool.name}/${name}`]: text })
  }

  /** What a tgtd has that has just begun. */
  async restart(): Promise<void> {
    await this.tgt.kill()
    await this.tgt.start()
  }

  told(iqn: string): string[] {
    return this.said.filter(line => JSON.parse(line).iqn === iqn).map(line => JSON.parse(line).reason)
  }
}

t.test('a volume that is closed for some work', async t => {
  const site = await Site.open(t)
  const exposure = await site.exposure()
  await site.keeper().expose(exposure)

  await t.test('is not opened by another process of the agent', async t => {
    await site.keeper().whileClosed(exposure, async () => {
      t.same(await site.tgt.names(), [])
      t.equal(await site.keeper().reconcile(), true)
      t.same(await site.tgt.names(), [])
    })
    t.same(await site.tgt.names(), [exposure.iqn])
    t.equal(await capacity(site.tgt.url(exposure.iqn)), 16 * MiB)
  })

  await t.test('stays closed when the process dies, until the work is done again', async t => {
    // Its work never ends, as that of a process that is dead.
    void site.keeper().whileClosed(exposure, () => new Promise(() => {}))
    await until('the target to be away', async () => (await site.tgt.names()).length === 0)
    const next = site.keeper()
    t.equal(await next.reconcile(), true)
    t.same(await site.tgt.names(), [])
    await site.restart()
    await next.reconcile()
    t.same(await site.tgt.names(), [], 'nor does a new tgtd have it')
    t.equal(await next.whileClosed(exposure, async () => 'done'), 'done')
    t.same(await site.tgt.names(), [exposure.iqn])
  })

  await t.test('and when its work is interrupted', async t => {
    const interrupted = site.keeper().whileClosed(exposure, async () => {
      throw new AbortError({ cause: 'stopping' })
    })
    await t.rejects(interrupted, { name: 'AbortError' })
    const next = site.keeper()
    t.equal(await next.reconcile(), true)
    t.same(await site.tgt.names(), [])
    await next.whileClosed(exposure, async () => {})
    t.same(await site.tgt.names(), [exposure.iqn])
    const failed = next.whileClosed(exposure, async () => {
      throw new Error('in vain')
    })
    await t.rejects(failed, { message: 'in vain' })
    t.same(await site.tgt.names(), [exposure.iqn], 'and not when it has failed')
  })

  await t.test('or until it is exposed', async t => {
    await site.setEntry(exposure.name, JSON.stringify({ ...exposure, isClosed: true }))
    const next = site.keeper()
    t.equal(await next.reconcile(), true)
    t.same(await site.tgt.names(), [], 'a target that was there goes')
    await next.expose(exposure)
    t.same(await site.tgt.names(), [exposure.iqn])
  })
})

t.test('a target that cannot be made as it should be', async t => {
  const site = await Site.open(t)
  const keeper = site.keeper()
  const [exposure, beside] = [await site.exposure(), await site.exposure()]
  for (const each of [exposure, beside]) await keeper.expose(each)
  const away = `${exposure.name}-away`
  await site.pool.renameImage(exposure.name, away)
  await site.restart()
  const now = Date.now
  t.teardown(() => {
    Date.now = now
  })
  const hoursLater = (count: number) => {
    Date.now = () => now() + count * 3_600_000
  }

  await t.test('is told of once, and the others are looked after', async t => {
    for (const count of [0, 1, 2, 3, 4, 5]) {
      hoursLater(count)
      t.equal(await keeper.reconcile(), false)
      t.same(await site.tgt.names(), [beside.iqn])
    }
    t.match(site.told(exposure.iqn), [/is to be exposed, and not there/])
    t.equal(site.told(exposure.iqn).length, 1)
  })
  await t.test('is tried again after a while, which becomes longer', async t => {
    await site.pool.renameImage(away, exposure.name)
    t.equal(await keeper.reconcile(), false)
    t.same(await site.tgt.names(), [beside.iqn], 'it is not its turn')
    hoursLater(6)
    t.equal(await keeper.reconcile(), true)
    t.same((await site.tgt.names()).sort(), [exposure.iqn, beside.iqn].sort())
  })
})

t.test('an entry that cannot be read', async t => {
  const site = await Site.open(t)
  const keeper = site.keeper()
  const [read, unreadable] = [await site.exposure(), await site.exposure({ chap })]
  for (const exposure of [read, unreadable]) await keeper.expose(exposure)
  // Cut where a message about it would show what is around.
  const text = JSON.stringify(unreadable)
  await site.setEntry(unreadable.name, text.slice(0, text.indexOf(chap.password) + chap.password.length))
  await t.test('keeps no other target from being looked after', async t => {
    const [, tid = ''] = new RegExp(`Target (\\d+): ${read.iqn}`).exec(await site.tgt.adm('target', 'show')) ?? []
    await site.tgt.adm('target', 'delete', '--force', '--tid', tid)
    t.equal(await keeper.reconcile(), true)
    t.ok((await site.tgt.names()).includes(read.iqn))
    t.match(await keeper.look(), [{ exposure: { name: read.name } }])
    await keeper.expose(await site.exposure())
  })
  await t.test('is told of once, its target is left alone, and no password is shown', async t => {
    await keeper.reconcile()
    t.match(site.told(unreadable.iqn), [/cannot be read/])
    t.equal(site.told(unreadable.iqn).length, 1)
    t.ok((await site.tgt.names()).includes(unreadable.iqn))
    const error = await keeper.hide(unreadable, true).catch(error => error)
    t.match(error, { code: 'ENTRY_UNREADABLE', message: new RegExp(unreadable.name) })
    t.notOk(`${site.said.join()}${error.message}${error.stack}`.includes(chap.password))
  })
})

t.test('two agents on one host', async t => {
  const site = await Site.open(t)
  const other = await Site.open(t, site.tgt)
  const beside = await Site.open(t, site.tgt)
  const exposure = await site.exposure()
  await site.keeper().expose(exposure)

  await t.test('with one prefix leave the targets of each other alone, and say what is wrong', async t => {
    const [neighbour, elsewhere] = [await site.exposure(), await other.exposure()]
    const settings = { STORAGE_CONTROLLER_AGENT_ID: 'neighbour' }
    await site.keeper(settings).expose(neighbour)
    await other.keeper().expose(elsewhere)
    t.equal(await site.keeper().reconcile(), true)
    t.equal(await site.keeper(settings).reconcile(), true)
    t.same((await site.tgt.names()).sort(), [exposure.iqn, neighbour.iqn, elsewhere.iqn].sort())
    for (const { iqn } of [neighbour, elsewhere]) t.match(site.told(iqn)[0], /need an IQN_PREFIX each/)
    await site.keeper(settings).hide(neighbour, true)
    await other.keeper().hide(elsewhere, true)
  })

  await t.test('with a prefix each see nothing of each other', async t => {
    const elsewhere = await beside.exposure()
    const settings = { IQN_PREFIX: laterPrefix }
    const keeper = beside.keeper(settings)
    await keeper.expose({ ...elsewhere, iqn: iqnOf(laterPrefix, elsewhere.name), chap })
    t.equal(await keeper.reconcile(), true)
    t.equal(await site.keeper().reconcile(), true)
    t.same([...beside.said, ...site.told(iqnOf(laterPrefix, elsewhere.name))], [])
    t.equal((await site.tgt.names()).length, 2)
    const clash = { ...(await site.exposure()), chap: { ...chap, password: 'not-the-same-1' } }
    await t.rejects(site.keeper().expose(clash), { code: 'CHAP_USER_TAKEN' }, 'nor do they change passwords')
    await site.keeper().hide(clash, true)
    await keeper.hide(elsewhere, true)
  })

  await t.test('what has our prefix and no list goes, also when it was cut short', async t => {
    const gone = await site.exposure()
    await site.keeper().expose(gone)
    await using pool = await site.cluster.openPool(site.pool.name, { namespace: 'cephkit.iscsi' })
    await pool.object(`exposed/${site.agent}`).removeOmap([`${site.pool.name}/${gone.name}`])
    await site.tgt.adm('target', 'new', '--tid', '7', '--targetname', iqnOf(iqnPrefix, 'torso'))
    await site.tgt.adm('target', 'new', '--tid', '8', '--targetname', iqnPrefix)
    t.equal(await site.keeper().reconcile(), true)
    t.same((await site.tgt.names()).sort(), [exposure.iqn, iqnPrefix].sort(), 'what is no name of ours is not ours')
    await site.tgt.adm('target', 'delete', '--tid', '8')
  })
})

t.test('a volume keeps its name when there is another prefix', async t => {
  const site = await Site.open(t)
  const former = await site.exposure()
  await site.keeper({ CEPH_TARGET_USER: chap.user, CEPH_TARGET_PASSWORD: chap.password }).expose(former)
  const password = 'another-pass-1'
  const settings = { IQN_PREFIX: laterPrefix, CEPH_TARGET_USER: chap.user, CEPH_TARGET_PASSWORD: password }
  const login = `${chap.user}%${password}`
  const keeper = site.keeper(settings)
  const later = await site.exposure()
  const iqn = iqnOf(laterPrefix, later.name)

  await t.test('and is looked after, with what else is new', async t => {
    await keeper.expose({ ...later, iqn })
    t.equal(await keeper.reconcile(), true)
    t.same((await site.tgt.names()).sort(), [former.iqn, iqn].sort())
    for (const each of [former.iqn, iqn]) t.equal(await capacity(site.tgt.url(each, { login })), 16 * MiB)
    t.match((await keeper.describe()).get(former.name), { iqn: former.iqn })
    t.match(
      (await keeper.look()).map(({ isServed }) => isServed),
      [true, true],
    )
  })

  await t.test('also by a tgtd that has forgotten it', async t => {
    await site.restart()
    await keeper.reconcile()
    t.equal(await capacity(site.tgt.url(former.iqn, { login })), 16 * MiB)
  })

  await t.test('until it is hidden', async t => {
    t.equal(await keeper.hide(former, false), true)
    t.same(await site.tgt.names(), [iqn])
    t.equal(await keeper.hide(former, false), false)
  })

  await t.test('an entry from before there were prefixes has the name of then', async t => {
    const { iqn: _, isClosed: __, ...old } = await site.exposure()
    await site.setEntry(old.name, JSON.stringify(old))
    t.equal(await keeper.reconcile(), true)
    t.ok((await site.tgt.names()).includes(iqnOf(iqnPrefix, old.name)))
  })
})

t.test('a disk tells which cluster and which pool it is of', t => {
  const identity = identityOf('cluster', 'pool', 'id')
  t.equal(isElsewhere(identity, 'cluster', 'pool'), false)
  t.equal(isElsewhere(identity, 'another', 'pool'), true)
  t.equal(isElsewhere(identity, 'cluster', 'another'), true)
  t.equal(
    isElsewhere({ serial: 'beaf11', naa: 'IET     00010001' }, 'cluster', 'pool'),
    false,
    'as tgtd gives it at first',
  )
  t.end()
})

t.test('an image that has another name is the same disk', async t => {
  const site = await Site.open(t)
  const keeper = site.keeper()
  const exposure = await site.exposure()
  await keeper.expose(exposure)
  const before = await identity(site.tgt.url(exposure.iqn))
  await keeper.hide(exposure, false)
  await run('rbd', 'rename', `${site.pool.name}/${exposure.name}`, `${site.pool.name}/renamed`)
  const renamed = { ...exposure, name: 'renamed', iqn: iqnOf(iqnPrefix, 'renamed') }
  await keeper.expose(renamed)
  t.same(await identity(site.tgt.url(renamed.iqn)), before)
})

t.test('two volumes that are exposed at once do not get one user with two passwords', async t => {
  const site = await Site.open(t)
  const keeper = site.keeper()
  const exposures = [
    await site.exposure({ chap }),
    await site.exposure({ chap: { ...chap, password: 'other-password' } }),
  ]
  const outcomes = await Promise.allSettled(exposures.map(exposure => keeper.expose(exposure)))
  t.match(outcomes, [{ status: 'fulfilled' }, { status: 'rejected', reason: { code: 'CHAP_USER_TAKEN' } }])
  t.same(await site.tgt.names(), [exposures[0]?.iqn])
})

t.test('what is put back while there is no tgtd, is there when there is', async t => {
  const site = await Site.open(t)
  const keeper = site.keeper()
  const exposure = await site.exposure()
  await site.tgt.kill()
  await t.rejects(keeper.expose(exposure), { code: 'ISCSI_DOWN' })
  await keeper.putBack(exposure)
  await site.tgt.start()
  t.equal(await keeper.reconcile(), true)
  t.match(await initiate('iscsi-readcapacity16', site.tgt.url(exposure.iqn)), /Total size/)
})
