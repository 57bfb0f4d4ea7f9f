/** What exposes volumes. */
import type { Config } from '../config.js'
import { openTgt, type TargetDriver } from '../iscsi/driver.js'
import { TargetServiceDeniedError, TargetServiceDownError } from '../iscsi/errors.js'
import { type Examination, Trouble } from './examination.js'
import { checkGateways } from './gateways.js'

/** Nothing, where volumes are not to be exposed. */
export async function checkTargets(examination: Examination, config: Config): Promise<void> {
  const ended = new AbortController()
  const prefixes = new Set([config.iscsi.iqnPrefix])
  switch (config.iscsi.driver) {
    case 'none':
      return
    case 'tgt':
      await examination.check('iscsi', () => describeTgt(openTgt(config, prefixes, ended.signal), config))
      break
    case 'ceph-iscsi':
      await checkGateways(examination, config, ended.signal)
  }
  ended.abort()
}

async function describeTgt(driver: TargetDriver, { iscsi }: Config): Promise<string> {
  try {
    await driver.list()
    const portals = (await driver.portals()).map(({ ip, port }) => `${ip}:${port}`)
    if (portals.length > 0) return `tgtd listens, and initiators are told ${portals.join(', ')}`
    throw new Trouble('tgtd listens nowhere', `start it with --iscsi portal=${iscsi.portals[0].ip}:3260`)
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
