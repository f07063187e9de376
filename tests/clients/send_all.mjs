// All six calls of the unmodified Segment Node client, batched and singly, to the host given.
// Usage: node send_all.mjs HOST WRITE_KEY FLUSH_AT RUN → prints the message ids, one a line.
import { Analytics } from '@segment/analytics-node'

const [host, writeKey, flushAt, run] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host, flushAt: Number(flushAt), flushInterval: 1000 })
const failed = []
analytics.on('error', (error) => failed.push(error))
const ids = []
const said = (context) => ids.push(context.event.messageId)
const call = (method, fields) =>
  new Promise((resolve) => analytics[method]({ ...fields, messageId: `node-${run}-${method}` }, (error, context) => {
    if (error) failed.push(error)
    else said(context)
    resolve()
  }))

const userId = `node-${run}`
const calls = [
  call('identify', { userId, traits: { email: 'node@example.com' } }),
  call('track', { userId, event: 'Order Completed', properties: { revenue: 12.5, client: 'node' } }),
  call('page', { userId, name: 'Home', properties: { path: '/' } }),
  call('screen', { userId, name: 'Start' }),
  call('group', { userId, groupId: 'acme', traits: { plan: 'pro' } }),
  call('alias', { userId, previousId: `before-${run}` }),
]
await Promise.all(calls)
await analytics.closeAndFlush()
if (failed.length) {
  console.error(failed)
  process.exit(1)
}
console.log(ids.join('\n'))
