/** The CephFS whose health the agent tells. */
import { MountedPath } from '../../lib/index.js'
import type { Config } from '../config.js'
import { type Examination, Trouble } from './examination.js'

/** Nothing, where none is configured. */
export async function checkMount(examination: Examination, { mount }: Config): Promise<void> {
  if (mount === null) return
  await examination.check('mount', async () => {
    const { mounted, latencyMs, lastError } = await new MountedPath(mount.path, { timeout: mount.timeoutMs }).probe()
    if (latencyMs !== null) return `${mount.path} can be written, in ${Math.round(latencyMs)} ms`
    const todo = mounted
      ? `may this user write in ${mount.path}? Is an MDS active (ceph fs status)?`
      : 'mount a CephFS there: cephkit mount-unit prints a unit for systemd'
    throw new Trouble(String(lastError), todo)
  })
}
