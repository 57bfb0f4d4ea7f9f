/** The bindings of librados. */
import type { Handle, NativeVersion, Token } from '../bindings.js'

export type ClusterHandle = Handle<'cluster'>
export type IoctxHandle = Handle<'ioctx'>
export type ObjectListHandle = Handle<'objectList'>
export type WatchHandle = Handle<'watch'>

export interface NativeLockers {
  exclusive: boolean
  tag: string
  lockers: { client: string; cookie: string; address: string }[]
}

export type NativeWriteStep =
  | ['create', boolean]
  | ['assertExists']
  | ['assertVersion', number]
  | ['compareXattr' | 'compareOmap', string, string, Uint8Array]
  | ['write', Uint8Array, number]
  | ['writeFull' | 'append', Uint8Array]
  | ['truncate', number]
  | ['zero', number, number]
  | ['remove']
  | ['setXattr', string, Uint8Array]
  | ['removeXattr', string]
  | ['setOmap', [string, Uint8Array][]]
  | ['removeOmap', string[]]
  | ['clearOmap']
  | ['exec', string, string, Uint8Array]

export type NativeReadStep =
  | ['read', number, number]
  | ['stat']
  | ['getXattrs']
  | ['getOmap', string, string, number]
  | ['getOmapByKeys', string[]]
  | ['exec', string, string, Uint8Array]
  | ['assertVersion', number]

export interface NativeOmapPage {
  entries: [string, Buffer][]
  more: boolean
}

export type NativeWatchEvent = { notifyId: bigint; notifier: bigint; payload: Buffer } | { errno: number }

interface CommandResult {
  output: Buffer
  status: string
}

export interface RadosBindings {
  radosVersion(): NativeVersion
  clusterCreate(clusterName: string, name: string, token?: Token): Promise<ClusterHandle>
  clusterReadConfigFile(cluster: ClusterHandle, path: string | null, token?: Token): Promise<void>
  clusterSetOption(cluster: ClusterHandle, option: string, value: string, token?: Token): Promise<void>
  clusterGetOption(cluster: ClusterHandle, option: string, token?: Token): Promise<string>
  clusterConnect(cluster: ClusterHandle, token?: Token): Promise<void>
  clusterStat(
    cluster: ClusterHandle,
    token?: Token,
  ): Promise<{ totalBytes: number; usedBytes: number; availableBytes: number; objects: number }>
  clusterFsid(cluster: ClusterHandle, token?: Token): Promise<string>
  clusterInstanceId(cluster: ClusterHandle, token?: Token): Promise<bigint>
  clusterAddresses(cluster: ClusterHandle, token?: Token): Promise<string>
  clusterMinCompatibleClient(cluster: ClusterHandle, token?: Token): Promise<number>
  clusterListPools(cluster: ClusterHandle, token?: Token): Promise<string[]>
  clusterLookUpPool(cluster: ClusterHandle, name: string, token?: Token): Promise<number>
  clusterReverseLookUpPool(cluster: ClusterHandle, id: number, token?: Token): Promise<string>
  clusterCreatePool(cluster: ClusterHandle, name: string, token?: Token): Promise<void>
  clusterDeletePool(cluster: ClusterHandle, name: string, token?: Token): Promise<void>
  clusterWaitForLatestOsdmap(cluster: ClusterHandle, token?: Token): Promise<void>
  clusterBlocklistAdd(cluster: ClusterHandle, address: string, expireSeconds: number, token?: Token): Promise<void>
  clusterMonCommand(cluster: ClusterHandle, command: string, input: Uint8Array, token?: Token): Promise<CommandResult>
  clusterMgrCommand(cluster: ClusterHandle, command: string, input: Uint8Array, token?: Token): Promise<CommandResult>
  clusterOsdCommand(
    cluster: ClusterHandle,
    id: number,
    command: string,
    input: Uint8Array,
    token?: Token,
  ): Promise<CommandResult>
  clusterPgCommand(
    cluster: ClusterHandle,
    pg: string,
    command: string,
    input: Uint8Array,
    token?: Token,
  ): Promise<CommandResult>

  ioctxOpen(
    cluster: ClusterHandle,
    pool: string,
    namespace: string,
    fullTry: boolean,
    token?: Token,
  ): Promise<IoctxHandle>
  ioctxOpenById(
    cluster: ClusterHandle,
    id: number,
    namespace: string,
    fullTry: boolean,
    token?: Token,
  ): Promise<IoctxHandle>
  ioctxId(ioctx: IoctxHandle, token?: Token): Promise<number>
  ioctxStat(ioctx: IoctxHandle, token?: Token): Promise<Record<string, number>>
  ioctxEnableApplication(ioctx: IoctxHandle, application: string, force: boolean, token?: Token): Promise<void>
  ioctxListApplications(ioctx: IoctxHandle, token?: Token): Promise<string[]>
  ioctxListObjects(ioctx: IoctxHandle, token?: Token): Promise<ObjectListHandle>
  objectListNext(
    list: ObjectListHandle,
    limit: number,
    token?: Token,
  ): Promise<{ name: string; namespace: string; locator: string }[]>

  objectWrite(
    ioctx: IoctxHandle,
    object: string,
    steps: NativeWriteStep[],
    fullForce: boolean,
    token?: Token,
  ): Promise<{ version: number }>
  objectRead(
    ioctx: IoctxHandle,
    object: string,
    steps: NativeReadStep[],
    token?: Token,
  ): Promise<{ version: number; results: unknown[] }>
  objectLockExclusive(
    ioctx: IoctxHandle,
    object: string,
    name: string,
    cookie: string,
    description: string,
    durationMs: number,
    flags: number,
    token?: Token,
  ): Promise<void>
  objectLockShared(
    ioctx: IoctxHandle,
    object: string,
    name: string,
    cookie: string,
    tag: string,
    description: string,
    durationMs: number,
    flags: number,
    token?: Token,
  ): Promise<void>
  objectUnlock(ioctx: IoctxHandle, object: string, name: string, cookie: string, token?: Token): Promise<void>
  objectBreakLock(
    ioctx: IoctxHandle,
    object: string,
    name: string,
    client: string,
    cookie: string,
    token?: Token,
  ): Promise<void>
  objectListLockers(ioctx: IoctxHandle, object: string, name: string, token?: Token): Promise<NativeLockers>
  objectNotify(
    ioctx: IoctxHandle,
    object: string,
    payload: Uint8Array,
    timeoutMs: number,
    token?: Token,
  ): Promise<{
    acks: { client: bigint; cookie: bigint; payload: Buffer }[]
    timeouts: { client: bigint; cookie: bigint }[]
  }>
  watchStart(
    ioctx: IoctxHandle,
    object: string,
    timeoutSeconds: number,
    listener: (event: NativeWatchEvent) => void,
    token?: Token,
  ): Promise<WatchHandle>
  watchAcknowledge(watch: WatchHandle, notifyId: bigint, reply: Uint8Array, token?: Token): Promise<void>
}
