import { pino } from 'pino'
import { Cluster } from '../../lib/index.js'
import { Journal } from '../../src/journal/journal.js'

const [, , agentId = '', leaseMs] = process.argv
const log = pino({ enabled: false })
const cluster = await Cluster.connect()
const journal = await Journal.open({ cluster, poolName: 'rbd', agentId, log, leaseMs: Number(leaseMs) })
journal.lost.addEventListener('abort', () => console.log(`lost ${journal.lost.reason.message}`))
console.log(`instance ${journal.instance.id}`)
