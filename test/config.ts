import t from 'tap'
import { ConfigError, readConfig } from '../src/config.js'

const url = 'amqp://user:hidden-password@broker:5672/vhost'
const read = (environment: Record<string, string> = {}) => readConfig({ BROKER_URL: url, ...environment })

function problemsOf(environment: Record<string, string>): readonly string[] {
  try {
    readConfig(environment)
  } catch (error) {
    if (error instanceof ConfigError) return error.problems
    throw error
  }
  return []
}

t.test('what is not set is as the control plane expects it', async t => {
  t.same(read(), {
    agentId: 'storage-controller-1',
    serviceName: 'storage-controller',
    broker: {
      url,
      jobsExchange: 'jobs',
      resultsExchange: 'results',
      telemetryExchange: 'agent.telemetry',
      deadLetterExchange: 'jobs.dead',
      taskQueue: 'openhvx.storage.tasks',
      inventoryRoutingKey: 'inventory.storage.full',
      prefetch: 10,
      reconnectDelayMs: 5000,
    },
    ceph: {
      configFile: undefined,
      user: undefined,
      keyring: undefined,
      volumePool: 'rbd',
      catalogPool: 'catalog',
    },
    cephfs: { fileSystem: undefined, tenantBase: '/tenants' },
    journal: { keepMs: 7 * 24 * 3600 * 1000, takeover: false },
    http: { host: '127.0.0.1', port: 9283 },
    mount: null,
    volumes: { cloneDepthSoft: 8, cloneDepthHard: 16, trashDelayMs: 0 },
    iscsi: {
      driver: 'tgt',
      iqnPrefix: 'iqn.2001-07.org.openhvx:',
      portals: [{ ip: '127.0.0.1' }],
      chap: null,
      disk: { blockSize: 512, writeCache: true, discard: false },
      tgt: { socket: '/var/run/tgtd/socket', controlPort: 0 },
      dashboard: {
        urls: [],
        user: '',
        password: '',
        accept: 'application/vnd.ceph.api.v1.0+json',
        checksCertificate: true,
      },
    },
    inventoryIntervalMs: 300_000,
    heartbeatIntervalMs: 60_000,
    createTimeoutMs: 180_000,
    log: { enabled: true, level: 'info', json: false, name: 'storage-controller' },
  })
})

t.test('what is set counts', async t => {
  const config = read({
    JOBS_EXCHANGE: 'j',
    RESULTS_EXCHANGE: 'r',
    TELEMETRY_EXCHANGE: 't',
    TELEMETRY_ROUTING_KEY: 'k',
    DEAD_LETTER_EXCHANGE: 'd',
    TASK_QUEUE: 'q',
    SERVICE_NAME: 's',
    STORAGE_CONTROLLER_AGENT_ID: 'a',
    PREFETCH_COUNT: '64',
    CLONE_DEPTH_SOFT: '3',
    CLONE_DEPTH_HARD: '4',
    TRASH_DELAY_MS: '60000',
    ISCSI_DRIVER: 'none',
    IQN_PREFIX: 'iqn.2020-12.com.example.rack-1:',
    CEPH_GW_ISCSI_HOST: 'gateway',
    CEPH_GW_ISCSI_IP: '::1',
    CEPH_API_URL: 'https://mgr-a:8443, https://mgr-b:8443/ceph',
    CEPH_API_USER: 'agent',
    CEPH_API_PASSWORD: 'hidden-password',
    CEPH_API_ACCEPT: 'application/vnd.ceph.api.v1.1+json',
    CEPH_INSECURE_TLS: '1',
    CEPH_TARGET_USER: 'initiators',
    CEPH_TARGET_PASSWORD: 'twelve-to-16',
    ISCSI_BLOCK_SIZE: '4096',
    ISCSI_WRITE_CACHE: '0',
    ISCSI_DISCARD: '1',
    TGT_IPC_SOCKET: '/s',
    TGT_CONTROL_PORT: '3',
    CEPH_CONF: '/c',
    CEPH_USER: 'hypervisor',
    CEPH_KEYRING: '/k',
    CEPH_DEFAULT_POOL: 'v',
    CEPH_CATALOG_POOL: 'g',
    CEPHFS_NAME: 'fs',
    CEPHFS_TENANT_BASE: '//srv/./t/',
    JOURNAL_KEEP_MS: '5',
    HTTP_HOST: '::1',
    HTTP_PORT: '80',
    MOUNT_PATH: '/srv/web',
    MOUNT_PROBE_INTERVAL_MS: '6',
    MOUNT_TIMEOUT_MS: '7',
    JOURNAL_TAKEOVER: '1',
    INVENTORY_INTERVAL_MS: '1',
    HEARTBEAT_INTERVAL_MS: '2',
    CREATE_READINESS_TIMEOUT_MS: '3',
    BROKER_RECONNECT_DELAY_MS: '4',
    LOG_ENABLED: 'false',
    LOG_LEVEL: 'debug',
    LOG_JSON: '1',
    LOG_SERVICE_NAME: 'l',
  })
  t.same(config, {
    agentId: 'a',
    serviceName: 's',
    broker: {
      url,
      jobsExchange: 'j',
      resultsExchange: 'r',
      telemetryExchange: 't',
      deadLetterExchange: 'd',
      taskQueue: 'q',
      inventoryRoutingKey: 'k',
      prefetch: 64,
      reconnectDelayMs: 4,
    },
    ceph: { configFile: '/c', user: 'hypervisor', keyring: '/k', volumePool: 'v', catalogPool: 'g' },
    cephfs: { fileSystem: 'fs', tenantBase: '/srv/t' },
    journal: { keepMs: 5, takeover: true },
    http: { host: '::1', port: 80 },
    mount: { path: '/srv/web', probeIntervalMs: 6, timeoutMs: 7 },
    volumes: { cloneDepthSoft: 3, cloneDepthHard: 4, trashDelayMs: 60_000 },
    iscsi: {
      driver: 'none',
      iqnPrefix: 'iqn.2020-12.com.example.rack-1:',
      portals: [{ host: 'gateway', ip: '::1' }],
      chap: { user: 'initiators', password: 'twelve-to-16' },
      disk: { blockSize: 4096, writeCache: false, discard: true },
      tgt: { socket: '/s', controlPort: 3 },
      dashboard: {
        urls: ['https://mgr-a:8443', 'https://mgr-b:8443/ceph'],
        user: 'agent',
        password: 'hidden-password',
        accept: 'application/vnd.ceph.api.v1.1+json',
        checksCertificate: false,
      },
    },
    inventoryIntervalMs: 1,
    heartbeatIntervalMs: 2,
    createTimeoutMs: 3,
    log: { enabled: false, level: 'debug', json: true, name: 'l' },
  })
})

t.test('what is blank counts as not set', async t => {
  t.same(read({ JOBS_EXCHANGE: '', CEPH_CONF: '', PREFETCH_COUNT: '', LOG_JSON: '' }), read())
})

t.test('a blank TASK_QUEUE is the queue of the agent', async t => {
  t.equal(read({ TASK_QUEUE: '', STORAGE_CONTROLLER_AGENT_ID: 'a' }).broker.taskQueue, 'agent.a.tasks')
  t.equal(read({ TASK_QUEUE: '  ' }).broker.taskQueue, 'agent.storage-controller-1.tasks')
})

t.test('RMQ_URL counts when BROKER_URL is not set', async t => {
  t.equal(readConfig({ RMQ_URL: 'amqp://alias' }).broker.url, 'amqp://alias')
  t.equal(readConfig({ BROKER_URL: '', RMQ_URL: 'amqps://alias' }).broker.url, 'amqps://alias')
  t.equal(readConfig({ BROKER_URL: url, RMQ_URL: 'amqp://alias' }).broker.url, url)
})

t.test('booleans are 1, 0, true and false', async t => {
  for (const [text, value] of [
    ['1', true],
    ['0', false],
    ['true', true],
    ['false', false],
  ] as const) {
    t.equal(read({ LOG_ENABLED: text }).log.enabled, value, text)
  }
})

t.test('nothing in it can be changed', async t => {
  const config = read()
  t.throws(() => Object.assign(config, { agentId: 'other' }), TypeError)
  t.throws(() => Object.assign(config.broker, { url: 'other' }), TypeError)
})

t.test('what is wrong is refused, each by its name', async t => {
  const wrong: Record<string, [value: string, problem: RegExp][]> = {
    BROKER_URL: [
      ['broker', /must be an amqp/],
      ['http://broker', /must be an amqp/],
      ['amqp://', /must be an amqp/],
    ],
    PREFETCH_COUNT: [
      ['0', /integer from 1 to 65535; got "0"/],
      ['65536', /integer/],
      ['ten', /integer/],
      ['1.5', /integer/],
      ['-1', /integer/],
      ['1e3', /integer/],
      ['0x10', /integer/],
    ],
    MOUNT_PATH: [['srv/web', /absolute path/]],
    MOUNT_PROBE_INTERVAL_MS: [['0', /integer/]],
    MOUNT_TIMEOUT_MS: [['0', /integer/]],
    INVENTORY_INTERVAL_MS: [['2147483648', /integer from 1 to 2147483647/]],
    HEARTBEAT_INTERVAL_MS: [['0', /integer/]],
    CREATE_READINESS_TIMEOUT_MS: [['3 min', /integer/]],
    BROKER_RECONNECT_DELAY_MS: [['99999999999999999999', /integer/]],
    LOG_ENABLED: [['yes', /must be 1, 0, true or false; got "yes"/]],
    LOG_JSON: [['TRUE', /must be 1, 0, true or false/]],
    LOG_LEVEL: [['loud', /must be one of fatal, error/]],
    CEPH_DEFAULT_POOL: [['a/b', /name of a pool/]],
    CEPH_CATALOG_POOL: [['a@b', /name of a pool/]],
    CEPHFS_TENANT_BASE: [
      ['tenants', /begins with \//],
      ['/a/../b', /without \.\./],
    ],
    ISCSI_DRIVER: [['lio', /must be one of tgt, ceph-iscsi, none; got "lio"/]],
    CEPH_GW_ISCSI_IP: [
      ['gateway', /must be an IP address, or several with commas between; got "gateway"/],
      ['10.0.0.1,', /must be an IP address/],
      ['10.0.0.1,10.0.0.2', /must be one: tgt exposes volumes on this host/],
    ],
    CEPH_GW_ISCSI_HOST: [
      ['gw-1,,', /must be a name/],
      ['gw-1,gw-2', /must be as many as CEPH_GW_ISCSI_IP, or none/],
    ],
    CEPH_API_URL: [
      ['mgr:8443', /must be an http/],
      ['https://mgr:8443,ftp://mgr', /must be an http/],
      ['https://agent:hidden-password@mgr:8443', /without a password, or several with commas$/],
    ],
    CEPH_API_ACCEPT: [['application/json', /must be as application\/vnd/]],
    IQN_PREFIX: [
      ['iqn.2020-12.com.example', /must be a month, a domain in reverse and a colon, such as iqn\S+:; got/],
      ['iqn.2020-13.com.example:', /a month/],
      ['iqn.20-12.com.example:', /a month/],
      ['iqn.2020-12.Com.example:', /a month/],
      ['iqn.2020-12.com.ex_ample:', /a month/],
      ['iqn.2020-12.com.-example:', /a month/],
      ['iqn.2020-12..com:', /a month/],
      ['iqn.2020-12:', /a month/],
      ['iqn.2020-12.com.example:rack-1:', /a month/],
      ['eui.0123456789abcdef:', /a month/],
      [`iqn.2020-12.${'a'.repeat(148)}:`, /at most 160 characters/],
    ],
    ISCSI_BLOCK_SIZE: [['1024', /512 or 4096/]],
    TGT_CONTROL_PORT: [['32768', /integer from 0 to 32767/]],
    CEPH_USER: [['client.admin', /without the client\./]],
    STORAGE_CONTROLLER_AGENT_ID: [['a'.repeat(201), /at most 200 bytes/]],
    JOBS_EXCHANGE: [['ä'.repeat(128), /at most 255 bytes/]],
    TASK_QUEUE: [
      ['q'.repeat(256), /at most 255 bytes/],
      ['ä'.repeat(200), /at most 255 bytes/],
    ],
  }
  for (const [variable, values] of Object.entries(wrong)) {
    for (const [value, problem] of values) {
      const problems = problemsOf({ BROKER_URL: url, [variable]: value })
      t.equal(problems.length, 1, `${variable}=${value.slice(0, 30)}`)
      t.match(problems[0], problem)
      t.ok(problems[0]?.startsWith(`${variable} `))
    }
  }
})

t.test('a user and a password of CHAP are both there, or neither is', async t => {
  const user = { CEPH_TARGET_USER: 'initiators' }
  const password = { CEPH_TARGET_PASSWORD: 'twelve-to-16' }
  const problems = (environment: Record<string, string>) => problemsOf({ BROKER_URL: url, ...environment })
  t.same(problems(user), ['CEPH_TARGET_PASSWORD is not set, and CEPH_TARGET_USER is'])
  t.same(problems(password), ['CEPH_TARGET_USER is not set, and CEPH_TARGET_PASSWORD is'])
  t.match(problems({ ...user, CEPH_TARGET_PASSWORD: 'too-short-1' }), [
    /^CEPH_TARGET_PASSWORD must be 12 to 16 of [^;]*$/,
  ])
  t.match(problems({ ...password, CEPH_TARGET_USER: 'a b c d e' }), [/^CEPH_TARGET_USER must be 8 to 64 of/])
})

t.test('ceph-iscsi needs a Dashboard and gateways by their names', async t => {
  const gateways = { CEPH_GW_ISCSI_HOST: 'gw-1.lab,gw-2.lab', CEPH_GW_ISCSI_IP: '10.0.0.1, 10.0.0.2' }
  const dashboard = { CEPH_API_URL: 'http://mgr', CEPH_API_USER: 'agent', CEPH_API_PASSWORD: 'hidden-password' }
  const driver = { BROKER_URL: url, ISCSI_DRIVER: 'ceph-iscsi' }
  t.match(readConfig({ ...driver, ...gateways, ...dashboard }).iscsi, {
    driver: 'ceph-iscsi',
    portals: [
      { host: 'gw-1.lab', ip: '10.0.0.1' },
      { host: 'gw-2.lab', ip: '10.0.0.2' },
    ],
    dashboard: { urls: ['http://mgr'], user: 'agent', password: 'hidden-password', checksCertificate: true },
  })
  t.same(problemsOf(driver), [
    'CEPH_API_URL is not set, and ISCSI_DRIVER=ceph-iscsi needs it',
    'CEPH_API_USER is not set, and ISCSI_DRIVER=ceph-iscsi needs it',
    'CEPH_API_PASSWORD is not set, and ISCSI_DRIVER=ceph-iscsi needs it',
    'CEPH_GW_ISCSI_HOST is not set, and ISCSI_DRIVER=ceph-iscsi needs it',
  ])
  t.match(problemsOf({ ...driver, ...gateways, ...dashboard, ISCSI_BLOCK_SIZE: '4096' }), [/must be 512/])
  t.match(problemsOf({ ISCSI_DRIVER: 'ceph-iscsi', ...gateways, CEPH_API_URL: 'http://mgr', CEPH_API_USER: 'agent' }), [
    'BROKER_URL is not set',
    /^CEPH_API_PASSWORD is not set/,
  ])
})

t.test('all that is wrong is named at once, and no secret shown', async t => {
  const environment = {
    RMQ_URL: 'http://user:hidden-password@broker',
    PREFETCH_COUNT: 'x',
    LOG_JSON: 'y',
    LOG_LEVEL: 'z',
  }
  t.same(
    problemsOf(environment).map(problem => problem.split(' ')[0]),
    ['RMQ_URL', 'PREFETCH_COUNT', 'LOG_LEVEL', 'LOG_JSON'],
    'under the name that was given',
  )
  try {
    readConfig(environment)
    t.fail('must throw')
  } catch (error) {
    t.equal((error as Error).message.split('\n').length, 5, 'one a line')
    t.notMatch(`${(error as Error).stack}${JSON.stringify(error)}`, /hidden/)
  }
  t.same(problemsOf({}), ['BROKER_URL is not set'])
  t.same(problemsOf({ BROKER_URL: 'x', RMQ_URL: 'x' }), ['BROKER_URL must be an amqp:// or amqps:// URL'])
})
