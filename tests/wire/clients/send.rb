# All six calls with everything that a caller may say, and one with nothing but the defaults, by Segment's Ruby client.
# Usage: ruby send.rb HOST PORT KEY MODE RUN, with the gem analytics-ruby on the load path. MODE: batched, single.
# It speaks only TLS: SSL_CERT_FILE names the platform's certificate. Before 2.4 the host could not be changed.
require 'logger'
require 'segment/analytics'

host, port, key, mode, run = ARGV
failed = false
Segment::Analytics::Logging.logger = Logger.new($stderr, level: Logger::WARN)
options = { write_key: key, host: host, port: port.to_i }
options[:on_error] = proc { |status, error| warn "error #{status}: #{error}"; failed = true }
options[:batch_size] = 1 if mode == 'single'
analytics = Segment::Analytics.new(options)
said = lambda do |call|
  {
    user_id: "user-#{run}",
    anonymous_id: "anon-#{run}",
    message_id: "#{run}-#{call}",
    timestamp: Time.utc(2026, 1, 2, 3, 4, 5.678r),
    context: { ip: '203.0.113.7', locale: 'nl-NL', campaign: { name: 'spring', source: 'news' } },
    integrations: { All: true, Mixpanel: false, Amplitude: { session_id: 1_767_323_045_678 } }
  }
end
traits = { name: 'Zoë Ångström ☕', email: 'zoe@example.com', age: 36, address: { city: 'Gent', zip: nil } }
order = { revenue: 42.5, currency: 'EUR', products: [{ sku: 'a-1', n: 2 }], gift: true, when: Time.utc(2026, 1, 2) }
analytics.identify(said['identify'].merge(traits: traits))
analytics.track(said['track'].merge(event: 'Order Completed 🎉', properties: order))
analytics.page(said['page'].merge(category: 'Docs', name: 'Home', properties: { path: '/docs', title: 'A "quoted" \\ title' }))
analytics.screen(said['screen'].merge(category: 'App', name: 'Start', properties: { build: 7 }))
analytics.group(said['group'].merge(group_id: "group-#{run}", traits: { plan: 'pro', employees: 12 }))
analytics.alias(said['alias'].merge(previous_id: "before-#{run}"))
analytics.track(user_id: "user-#{run}", event: 'Plain')
analytics.flush
exit(1) if failed
