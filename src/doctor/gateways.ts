/** The Ceph Dashboard, and the iSCSI gateways that it knows. Nothing is changed there. */
import { z } from 'zod'
import type { Config } from '../config.js'
import { Dashboard, parse } from '../iscsi/dashboard.js'
import { type Examination, Trouble } from './examination.js'

/** What the Dashboard's own pages ask it: it has no words for them in its documentation. */
const portalsPage = z.array(z.object({ name: z.string(), ip_addresses: z.array(z.string()) }))
const settingsPage = z.object({ config: z.object({ minimum_gateways: z.int() }) })
const overviewPage = z.object({ gateways: z.array(z.object({ name: z.string(), state: z.string() })) })

export async function checkGateways(examination: Examination, { iscsi }: Config, signal: AbortSignal): Promise<void> {
  const dashboard = new Dashboard(iscsi.dashboard, signal)
  const ask = async <T>(page: string, schema: z.ZodType<T>): Promise<T> => {
    const call = { what: `tell the ${page} of the gateways`, method: 'GET', resource: `/ui-api/iscsi/${page}` } as const
    return parse(schema, call, await dashboard.ask(call))
  }
  const hasTargets = await examination.check('dashboard', async () => {
    const call = { what: 'list the targets', method: 'GET', resource: '/api/iscsi/target' } as const
    const targets = parse(z.array(z.unknown()), call, await dashboard.ask(call))
    return `${iscsi.dashboard.user} is logged in; there are ${targets.length} targets`
  })
  if (!hasTargets) return examination.skip(['gateways', 'portals'], 'the Dashboard has no answer')
  await examination.check('gateways', async () => describeUp((await ask('overview', overviewPage)).gateways))
  await examination.check('portals', async () => {
    const { minimum_gateways: least } = (await ask('settings', settingsPage)).config
    return describePortals(iscsi.portals, await ask('portals', portalsPage), least)
  })
}

function describeUp(gateways: z.output<typeof overviewPage>['gateways']): string {
  const down = gateways.filter(({ state }) => state !== 'up').map(({ name }) => name)
  if (down.length === 0) return `up: ${gateways.map(({ name }) => name).join(', ')}`
  throw new Trouble(`the Dashboard has no answer of ${down.join(', ')}`, 'systemctl start rbd-target-api, there')
}

function describePortals(
  wanted: Config['iscsi']['portals'],
  known: z.output<typeof portalsPage>,
  least: number,
): string {
  const todo =
    'set CEPH_GW_ISCSI_HOST and CEPH_GW_ISCSI_IP to what ceph dashboard iscsi-gateway-list and the gateways say'
  for (const { host, ip } of wanted) {
    const gateway = known.find(({ name }) => name === host)
    if (gateway === undefined) throw new Trouble(`the Dashboard knows no gateway ${host} that is up`, todo)
    if (!gateway.ip_addresses.includes(ip)) {
      throw new Trouble(`${host} has not the address ${ip}, but ${gateway.ip_addresses.join(', ')}`, todo)
    }
  }
  const count = new Set(wanted.map(({ host }) => host)).size
  if (count >= least) return wanted.map(({ host, ip }) => `${host} (${ip})`).join(', ')
  throw new Trouble(
    `a target needs ${least} gateways, and the settings name ${count}`,
    'name more, or lower minimum_gateways',
  )
}
