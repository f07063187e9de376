// The unmodified Segment Node client with OAuth: sends one event for each line on stdin, one a request, and says what became of it.
// Usage: node send_oauth.mjs HOST WRITE_KEY CLIENT_ID KEY_ID PRIVATE_KEY_FILE → a line for each: {"messageId", "failed"}.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Analytics } from '@segment/analytics-node'

const [host, writeKey, clientId, keyId, keyFile] = process.argv.slice(2)
const analytics = new Analytics({
  writeKey,
  host,
  flushAt: 1,
  maxRetries: 3,
  oauthSettings: { clientId, clientKey: readFileSync(keyFile, 'utf8'), keyId, authServer: host },
})
analytics.on('error', () => {})

for await (const messageId of createInterface({ input: process.stdin })) {
  const failed = await new Promise((resolve) =>
    analytics.track({ userId: 'ada', event: 'Order Completed', messageId }, (error, context) => {
      resolve(error ? String(error) : context.failedDelivery() ? String(context.failedDelivery().reason) : null)
    })
  )
  console.log(JSON.stringify({ messageId, failed }))
}
await analytics.closeAndFlush({ timeout: 5000 })
process.exit(0)
