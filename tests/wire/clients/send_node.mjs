// All six calls with everything that a caller may say, and one with nothing but the defaults, by Segment's Node.js clients.
// Usage: node send_node.mjs URL KEY MODE RUN, in a folder with @segment/analytics-node or the older analytics-node installed.
// MODE: batched, single, gzip (only where the client has the option).
import { createRequire } from 'node:module'

const [url, key, mode, run] = process.argv.slice(2)
const require = createRequire(process.cwd() + '/')
const flushAt = mode === 'single' ? 1 : 15
let analytics, finish
try {
  const { Analytics } = require('@segment/analytics-node')
  analytics = new Analytics({ writeKey: key, host: url, flushAt, flushInterval: 500 })
  analytics.on('error', (error) => { console.error(error); process.exitCode = 1 })
  finish = () => analytics.closeAndFlush()
} catch (error) {
  if (error.code !== 'MODULE_NOT_FOUND') throw error
  const Analytics = require('analytics-node')
  analytics = new Analytics(key, { host: url, flushAt, flushInterval: 500 })
  finish = () => analytics.flush()
}

const userId = `user-${run}`
const said = (call) => ({
  userId,
  anonymousId: `anon-${run}`,
  messageId: `${run}-${call}`,
  timestamp: new Date('2026-01-02T03:04:05.678Z'),
  context: { ip: '203.0.113.7', locale: 'nl-NL', campaign: { name: 'spring', source: 'news' } },
  integrations: { All: true, Mixpanel: false, Amplitude: { session_id: 1767323045678 } },
})
const traits = { name: 'Zoë Ångström ☕', email: 'zoe@example.com', age: 36, address: { city: 'Gent', zip: null } }
const order = { revenue: 42.5, currency: 'EUR', products: [{ sku: 'a-1', n: 2 }], gift: true, when: new Date(1767323045678) }
analytics.identify({ ...said('identify'), traits })
analytics.track({ ...said('track'), event: 'Order Completed 🎉', properties: order })
analytics.page({ ...said('page'), category: 'Docs', name: 'Home', properties: { path: '/docs', title: 'A "quoted" \\ title' } })
analytics.screen({ ...said('screen'), category: 'App', name: 'Start', properties: { build: 7 } })
analytics.group({ ...said('group'), groupId: `group-${run}`, traits: { plan: 'pro', employees: 12 } })
analytics.alias({ ...said('alias'), previousId: `before-${run}` })
analytics.track({ userId, event: 'Plain' })
await finish()
