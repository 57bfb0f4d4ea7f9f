/**
 * The development stack that all tests of one run share. Importing this puts it into the environment, so that cephkit
 * and Ceph's own programs find it alike. Who has set CEPH_CONF (and BROKER_URL) tests against that cluster instead.
 */
import { resolve } from 'node:path'
import { describe } from '../../src/dev/describe.js'
import { readRecord } from '../../src/dev/folder.js'

export const stackDir = resolve('.cephkit/test')

const record = process.env.CEPH_CONF ? undefined : readRecord(stackDir)
if (record) Object.assign(process.env, describe(stackDir, record).env)
