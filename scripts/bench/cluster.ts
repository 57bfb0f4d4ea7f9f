/** Where a run takes place, and that nothing is left of it. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { basename, join } from 'node:path'
import { Cluster, type Pool } from '../../lib/index.js'
import { type Service, startStack, stopStack } from '../../src/dev/stack.js'
import type { Place } from './harness.js'

type Site = Pick<Place, 'cephConf' | 'brokerUrl' | 'tgtSettings' | 'fileSystem'>

/**
 * On the cluster that CEPH_CONF names, with the broker of BROKER_URL and the tgtd of TGT_IPC_SOCKET, or else on a development stack that lives as long as
 * this.
 */
export async function withPlace<T>(signal: AbortSignal, use: (place: Place) => Promise<T>): Promise<T> {
  const given = process.env.CEPH_CONF
  if (given) {
    const brokerUrl = async () => urlOf(process.env)
    const tgtSettings = async () => tgtOf(process.env)
    return onEqualTerms({ cephConf: given, brokerUrl, tgtSettings, fileSystem: async () => given }, use)
  }
  const dir = await mkdtemp(join(tmpdir(), 'cephkit-bench-'))
  const { cephConf } = await startStack({ dir, signal })
  const start = async (service: Service) => (await startStack({ dir, signal, services: [service] })).env
  const brokerUrl = async () => urlOf(await start('rabbitmq'))
  const tgtSettings = async () => tgtOf(await start('tgt'))
  const fileSystem = async () => {
    await start('mds')
    return cephConf
  }
  try {
    return await onEqualTerms({ cephConf, brokerUrl, tgtSettings, fileSystem }, use)
  } finally {
    await stopStack(dir)
  }
}

function urlOf({ BROKER_URL }: NodeJS.ProcessEnv): string {
  if (!BROKER_URL) throw new Error('BROKER_URL is not set')
  return BROKER_URL
}

function tgtOf({ TGT_IPC_SOCKET, TGT_CONTROL_PORT = '0' }: NodeJS.ProcessEnv): Record<string, string> {
  if (!TGT_IPC_SOCKET) throw new Error('TGT_IPC_SOCKET is not set')
  return { TGT_IPC_SOCKET, TGT_CONTROL_PORT }
}

/** What cephkit sets by itself. To know of each request when it is late costs 4 % of the reads at depth 128. */
const settings = `
[client]
rados_osd_op_timeout = 30
rados_mon_op_timeout = 30
objecter_inflight_ops = 0
objecter_inflight_op_bytes = 0
`

/** With the same time-outs for all clients, and none of librados' throttles. */
async function onEqualTerms<T>(site: Site, use: (place: Place) => Promise<T>): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'cephkit-bench-'))
  try {
    // Ceph's programs take the cluster's name from that of the file.
    const cephConf = join(folder, basename(site.cephConf))
    await writeFile(cephConf, (await readFile(site.cephConf, 'utf8')) + settings)
    return await withNamespace({ ...site, cephConf }, use)
  } finally {
    await rm(folder, { recursive: true })
  }
}

/** In a new namespace of the pool that rbd uses by default. */
async function withNamespace<T>(site: Site, use: (place: Place) => Promise<T>): Promise<T> {
  await using cluster = await Cluster.connect({ configFile: site.cephConf })
  const name = await cluster.getOption('rbd_default_pool')
  const namespace = `cephkit-bench-${process.pid}`
  await using pool = await cluster.openPool(name)
  await pool.createNamespace(namespace)
  try {
    return await use({ ...site, cluster, pool: name, namespace })
  } finally {
    await using own = await cluster.openPool(name, { namespace })
    await removeImages(own)
    await pool.removeNamespace(namespace)
  }
}

/** Clones first: they keep their parent's snapshots from being unprotected, and have none themselves. */
async function removeImages(pool: Pool): Promise<void> {
  const withSnapshots: string[] = []
  for (const { name } of await pool.listImages()) {
    if (await hasSnapshots(pool, name)) withSnapshots.push(name)
    else await pool.removeImage(name)
  }
  for (const name of withSnapshots) {
    await removeSnapshots(pool, name)
    await pool.removeImage(name)
  }
}

async function hasSnapshots(pool: Pool, name: string): Promise<boolean> {
  await using image = await pool.openImage(name, { readOnly: true })
  return (await image.listSnapshots()).length > 0
}

async function removeSnapshots(pool: Pool, name: string): Promise<void> {
  await using image = await pool.openImage(name)
  for (const { name } of await image.listSnapshots())
    await image.snapshot(name).remove({ unprotect: true, flattenClones: true })
}
