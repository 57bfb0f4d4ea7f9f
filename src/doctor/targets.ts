/** What exposes volumes. */
import type { Config } from '../config.js'
import { openDriver, type TargetDriver } from '../iscsi/driver.js'
import { TargetServiceDeniedError, TargetServiceDownError } from '../iscsi/errors.js'
import { type Examination, Trouble } from './examination.js'

/** Nothing, where volumes are not to be exposed. */
export async function checkTargets(examination: Examination, config: Config): Promise<void> {
  const ended = new AbortController()
  const driver = openDriver(config, new Set([config.iscsi.iqnPrefix]), ended.signal)
  if (driver === undefined) return
  await examination.check('iscsi', () => describeTargets(driver, config))
  ended.abort()
}

async function describeTargets(driver: TargetDriver, { iscsi }: Config): Promise<string> {
  try {
    await driver.list()
    const portals = (await driver.portals()).map(({ ip, port }) => `${ip}:${port}`)
    if (portals.length > 0) return `tgtd listens, and initiators are told ${portals.join(', ')}`
    throw new Trouble('tgtd listens nowhere', `start it with --iscsi portal=${iscsi.portal.ip}:3260`)
  } catch (error) {
    if (error instanceof TargetServiceDownError) {
      const todo = 'apt-get install tgt tgt-rbd && systemctl start tgt, or set ISCSI_DRIVER=none'
      throw new Trouble(error.message, todo, { cause: error })
    }
    if (error instanceof TargetServiceDeniedError) {
      throw new Trouble(error.message, "run the agent as tgtd's user, as docs/iscsi.md says", { cause: error })
    }
    throw error
  }
}
