/**
 * The development stack that all tests of one run share. Importing this puts it into the environment, so that cephkit
 * and Ceph's own programs find it alike. Who has set CEPH_CONF (and BROKER_URL) tests against that cluster instead.
 */
import { describe } from '../../src/dev/describe.js'
import { readRecord } from '../../src/dev/folder.js'
import { stackDir } from './stack-dir.js'

const record = process.env.CEPH_CONF ? undefined : readRecord(stackDir)
if (record) Object.assign(process.env, describe(stackDir, record).env)
