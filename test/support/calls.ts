/**
 * Every method that calls Ceph, called as it is meant to be: for the tests that say the same of all of them. Those
 * check that no method is missing here.
 */
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import { fileURLToPath } from 'node:url'
import type { Cluster, Image, Pool, RadosObject, Snapshot } from '../../lib/index.js'
import { WriteOperation } from '../../lib/index.js'

const neverMade = join(tmpdir(), `cephkit-never-made-${process.pid}`)
const someFile = fileURLToPath(import.meta.url)

/** The options of each call are the test's. */
type Calls<Subject> = Record<string, (subject: Subject, options: never) => Promise<unknown>>

export const ofCluster: Calls<Cluster> = {
  fsid: (cluster, options) => cluster.fsid(options),
  stat: (cluster, options) => cluster.stat(options),
  instanceId: (cluster, options) => cluster.instanceId(options),
  addresses: (cluster, options) => cluster.addresses(options),
  minCompatibleClient: (cluster, options) => cluster.minCompatibleClient(options),
  getOption: (cluster, options) => cluster.getOption('rbd_cache', options),
  setOption: (cluster, options) => cluster.setOption('rbd_cache', 'true', options),
  monCommand: (cluster, options) => cluster.monCommand({ prefix: 'status' }, options),
  mgrCommand: (cluster, options) => cluster.mgrCommand({ prefix: 'balancer status' }, options),
  osdCommand: (cluster, options) => cluster.osdCommand(0, { prefix: 'version' }, options),
  pgCommand: (cluster, options) => cluster.pgCommand('1.0', { prefix: 'query' }, options),
  listPools: (cluster, options) => cluster.listPools(options),
  createPool: (cluster, options) => cluster.createPool('cephkit-never-made', options),
  deletePool: (cluster, options) => cluster.deletePool('cephkit-never-made', options),
  openPool: (cluster, options) => cluster.openPool('rbd', options),
  mountFileSystem: (cluster, options) => cluster.mountFileSystem(options),
  poolId: (cluster, options) => cluster.poolId('rbd', options),
  poolName: (cluster, options) => cluster.poolName(1, options),
  waitForLatestOsdmap: (cluster, options) => cluster.waitForLatestOsdmap(options),
  blocklist: (cluster, options) => cluster.blocklist('127.0.0.1:0/1', options),
}

export const ofPool: Calls<Pool> = {
  initialize: (pool, options) => pool.initialize(options),
  stat: (pool, options) => pool.stat(options),
  imageStats: (pool, options) => pool.imageStats(options),
  enableApplication: (pool, options) => pool.enableApplication('rbd', options),
  listApplications: (pool, options) => pool.listApplications(options),
  listObjects: (pool, options) => pool.listObjects(options).next(),
  'listObjects of all': (pool, options) => pool.listObjects({ ...(options as object), allNamespaces: true }).next(),
  createNamespace: (pool, options) => pool.createNamespace('never-made', options),
  removeNamespace: (pool, options) => pool.removeNamespace('never-made', options),
  listNamespaces: (pool, options) => pool.listNamespaces(options),
  namespaceExists: (pool, options) => pool.namespaceExists('never-made', options),
  listImages: (pool, options) => pool.listImages(options),
  listImageDetails: (pool, options) => pool.listImageDetails(options).next(),
  listImageUsage: (pool, options) => pool.listImageUsage(options).next(),
  createImage: (pool, options) => pool.createImage('new', Object.assign({ size: 1 }, options)),
  cloneImage: (pool, options) => pool.cloneImage({ imageName: 'disk', name: 'one' }, 'new', options),
  importImage: (pool, options) => pool.importImage('new', someFile, options),
  openImage: (pool, options) => pool.openImage('disk', options),
  openImageById: (pool, options) => pool.openImageById('0123', options),
  finishFlatten: (pool, options) => pool.finishFlatten('other', options),
  finishFlattenById: (pool, options) => pool.finishFlattenById('0123', options),
  removeImage: (pool, options) => pool.removeImage('other', options),
  renameImage: (pool, options) => pool.renameImage('other', 'new', options),
  'trash.move': (pool, options) => pool.trash.move('other', options),
  'trash.list': (pool, options) => pool.trash.list(options),
  'trash.get': (pool, options) => pool.trash.get('0123', options),
  'trash.restore': (pool, options) => pool.trash.restore('0123', options),
  'trash.remove': (pool, options) => pool.trash.remove('0123', options),
  'trash.purge': (pool, options) => pool.trash.purge(options),
  'metadata.get': (pool, options) => pool.metadata.get('key', options),
  'metadata.set': (pool, options) => pool.metadata.set('key', 'value', options),
  'metadata.remove': (pool, options) => pool.metadata.remove('key', options),
  'metadata.list': (pool, options) => pool.metadata.list(options).next(),
  'config.list': (pool, options) => pool.config.list(options),
  'config.getQos': (pool, options) => pool.config.getQos(options),
}

export const ofObject: Calls<RadosObject> = {
  operate: (object, options) => object.operate(new WriteOperation().writeFull('new'), options),
  stat: (object, options) => object.stat(options),
  read: (object, options) => object.read(options),
  write: (object, options) => object.write('new', 0, options),
  writeFull: (object, options) => object.writeFull('new', options),
  append: (object, options) => object.append('new', options),
  truncate: (object, options) => object.truncate(100, options),
  remove: (object, options) => object.remove(options),
  getXattrs: (object, options) => object.getXattrs(options),
  setXattr: (object, options) => object.setXattr('new', '', options),
  removeXattr: (object, options) => object.removeXattr('new', options),
  getOmapPage: (object, options) => object.getOmapPage(options),
  listOmap: (object, options) => object.listOmap(options).next(),
  getOmap: (object, options) => object.getOmap(['key'], options),
  setOmap: (object, options) => object.setOmap({ new: '' }, options),
  removeOmap: (object, options) => object.removeOmap(['key'], options),
  lockExclusive: (object, options) => object.lockExclusive('lock', options),
  lockShared: (object, options) => object.lockShared('lock', 'tag', options),
  unlock: (object, options) => object.unlock('lock', options),
  breakLock: (object, options) => object.breakLock('lock', 'client.1', '', options),
  listLockers: (object, options) => object.listLockers('lock', options),
  watch: (object, options) => object.watch(() => {}, options),
  notify: (object, options) => object.notify('', options),
}

export const ofImage: Calls<Image> = {
  size: (image, options) => image.size(options),
  stat: (image, options) => image.stat(options),
  parent: (image, options) => image.parent(options),
  children: (image, options) => image.children(options),
  descendants: (image, options) => image.descendants(options),
  group: (image, options) => image.group(options),
  usedBytes: (image, options) => image.usedBytes(options),
  diff: (image, options) => image.diff(options).next(),
  createReadStream: async (image, options) => image.createReadStream(options).toArray(),
  createWriteStream: async (image, options) => finished(image.createWriteStream(options).end('new')),
  exportTo: (image, options) => image.exportTo(neverMade, options),
  importFrom: (image, options) => image.importFrom(someFile, options),
  exportDiff: async (image, options) => image.exportDiff(options).toArray(),
  importDiff: (image, options) => image.importDiff(Readable.from(['rbd diff v1\ne']), options),
  watchers: (image, options) => image.watchers(options),
  resize: (image, options) => image.resize(2 ** 30, options),
  enableFeatures: (image, options) => image.enableFeatures(['journaling'], options),
  disableFeatures: (image, options) => image.disableFeatures(['deep-flatten'], options),
  flatten: (image, options) => image.flatten(options),
  sparsify: (image, options) => image.sparsify(options),
  rebuildObjectMap: (image, options) => image.rebuildObjectMap(options),
  copy: (image, options) => image.copy(image.pool, 'new', options),
  deepCopy: (image, options) => image.deepCopy(image.pool, 'new', options),
  listSnapshots: (image, options) => image.listSnapshots(options),
  createSnapshot: (image, options) => image.createSnapshot('new', options),
  removeSnapshotById: (image, options) => image.removeSnapshotById(1, options),
  snapshotLimit: (image, options) => image.snapshotLimit(options),
  setSnapshotLimit: (image, options) => image.setSnapshotLimit(10, options),
  read: (image, options) => image.read(0, 10, options),
  'read into a buffer': (image, options) => image.read(0, Buffer.alloc(10), options),
  readv: (image, options) => image.readv(0, [Buffer.alloc(10)], options),
  write: (image, options) => image.write(0, Buffer.from('new'), options),
  writev: (image, options) => image.writev(0, [Buffer.from('new')], options),
  writeZeroes: (image, options) => image.writeZeroes(0, 4096, options),
  writeSame: (image, options) => image.writeSame(0, 4096, Buffer.from('new!'), options),
  compareAndWrite: (image, options) => image.compareAndWrite(0, Buffer.alloc(3), Buffer.from('new'), options),
  formatEncryption: (image, options) =>
    image.formatEncryption(Object.assign({ format: 'luks2', passphrase: 'secret' } as const, options)),
  loadEncryption: (image, options) =>
    image.loadEncryption(Object.assign({ format: 'luks2', passphrase: 'secret' } as const, options)),
  watch: (image, options) => image.watch(() => {}, options),
  watchQuiesce: (image, options) => image.watchQuiesce({ quiesce: async () => {} }, options),
  discard: (image, options) => image.discard(0, 4096, options),
  flush: (image, options) => image.flush(options),
  invalidateCache: (image, options) => image.invalidateCache(options),
  'exclusiveLock.isOwner': (image, options) => image.exclusiveLock.isOwner(options),
  'exclusiveLock.acquire': (image, options) => image.exclusiveLock.acquire(options),
  'exclusiveLock.release': (image, options) => image.exclusiveLock.release(options),
  'exclusiveLock.owners': (image, options) => image.exclusiveLock.owners(options),
  'exclusiveLock.break': (image, options) => image.exclusiveLock.break('127.0.0.1:0/1', options),
  'advisoryLock.list': (image, options) => image.advisoryLock.list(options),
  'advisoryLock.acquire': (image, options) => image.advisoryLock.acquire('cookie', options),
  'advisoryLock.release': (image, options) => image.advisoryLock.release('cookie', options),
  'advisoryLock.break': (image, options) => image.advisoryLock.break('client.1', 'cookie', options),
  'metadata.get': (image, options) => image.metadata.get('key', options),
  'metadata.set': (image, options) => image.metadata.set('new', '', options),
  'metadata.remove': (image, options) => image.metadata.remove('key', options),
  'metadata.list': (image, options) => image.metadata.list(options).next(),
  'config.list': (image, options) => image.config.list(options),
  'config.set': (image, options) => image.config.set('rbd_cache', 'false', options),
  'config.remove': (image, options) => image.config.remove('rbd_cache', options),
  'config.getQos': (image, options) => image.config.getQos(options),
  'config.setQos': (image, options) => image.config.setQos({ iops: { limit: 1 } }, options),
}

export const ofSnapshot: Calls<Snapshot> = {
  exists: (snapshot, options) => snapshot.exists(options),
  protect: (snapshot, options) => snapshot.protect(options),
  unprotect: (snapshot, options) => snapshot.unprotect(options),
  rename: (snapshot, options) => snapshot.rename('new', options),
  rollback: (snapshot, options) => snapshot.rollback(options),
  remove: (snapshot, options) => snapshot.remove(options),
}

/**
 * What all those calls are made on: an image with a snapshot and metadata, another image, and an object with an omap.
 */
export async function subjects(pool: Pool) {
  await pool.createImage('other', { size: 4096 })
  await pool.createImage('disk', { size: 2 ** 20 })
  const image = await pool.openImage('disk')
  const snapshot = await image.createSnapshot('one')
  await image.metadata.set('key', 'value')
  const object = pool.object('object')
  await object.setOmap({ key: 'value' })
  return { cluster: pool.cluster, pool, image, snapshot, object }
}
export type Subjects = Awaited<ReturnType<typeof subjects>>

interface NamedCall {
  /** Such as `image.exclusiveLock.acquire`. */
  name: string
  call: (subjects: Subjects, options: never) => Promise<unknown>
}

const named = <K extends keyof Subjects>(kind: K, calls: Calls<Subjects[K]>): NamedCall[] =>
  Object.entries(calls).map(([name, call]) => ({
    name: `${kind}.${name}`,
    call: (subjects, options) => call(subjects[kind], options),
  }))

export const allCalls: readonly NamedCall[] = [
  ...named('cluster', ofCluster),
  ...named('pool', ofPool),
  ...named('object', ofObject),
  ...named('image', ofImage),
  ...named('snapshot', ofSnapshot),
]
