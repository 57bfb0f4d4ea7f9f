import { checkBroker } from './broker.js'
import { checkCluster } from './cluster.js'
import { Examination } from './examination.js'
import { checkMount } from './mount.js'
import { checkConfigFile, checkKeyring, checkSettings } from './settings.js'
import { checkTargets } from './targets.js'

/** Looks at all that an agent with that environment depends on. */
export async function examine(environment: NodeJS.ProcessEnv): Promise<Examination> {
  const examination = new Examination()
  const { config, hasBroker } = await checkSettings(examination, environment)
  const conf = await checkConfigFile(examination, config)
  await checkKeyring(examination, config, conf)
  await checkCluster(examination, config)
  await checkTargets(examination, config)
  await checkMount(examination, config)
  if (hasBroker) await checkBroker(examination, config)
  else examination.skip(['broker', 'permissions'], 'BROKER_URL is not as it should be')
  return examination
}
