import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Test } from 'tap'
import { testFolder } from './golden.js'

/** Settings for the cluster as it is, in the format that a cluster has clones in. */
export async function withCloneFormat(t: Test, format: string): Promise<Record<string, string>> {
  const CEPH_CONF = join(await testFolder(t), 'ceph.conf')
  const conf = await readFile(process.env.CEPH_CONF ?? '', 'utf8')
  await writeFile(CEPH_CONF, `${conf}\n[client]\nrbd default clone format = ${format}\n`)
  return { CEPH_CONF }
}
