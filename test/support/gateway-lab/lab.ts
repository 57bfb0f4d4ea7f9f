/** What the tests of the lab share: two gateways, beside a cluster whose settings are in the environment. */
import { Gateway } from './gateway.js'

/** Where sockets and logs are; set by whoever brings the lab up. */
export const labFolder = process.env.GATEWAY_LAB ?? ''
if (labFolder === '') throw new Error('outside of the lab: npm run test:gateway')

/** Of the cluster; it is, as the gateways' own, an address of the namespace alone. */
export const clusterAddress = '192.168.77.1'

/** As many as ceph-iscsi wants of them, unless it is told otherwise. */
export const gateways = [
  new Gateway(labFolder, 'gw1.lab', '192.168.77.11'),
  new Gateway(labFolder, 'gw2.lab', '192.168.77.12'),
] as const
