<?php
// All six calls with everything that a caller may say, and one with nothing but the defaults, by Segment's PHP client.
// Usage: php send.php AUTOLOAD URL KEY MODE RUN, where AUTOLOAD is the file that loads the client.
// MODE: batched, single, gzip, fork. Version 3 speaks only TLS: the
// platform's certificate is named by -d curl.cainfo=FILE, for fork by CURL_CA_BUNDLE.
declare(strict_types=1);

[, $autoload, $url, $key, $mode, $run] = $argv;
require $autoload;
[$scheme, $host] = explode('://', $url);
$options = ['host' => $host, 'ssl' => $scheme === 'https', 'debug' => true, 'flush_interval' => 1000];
$options['error_handler'] = function ($code, $message) {
    fwrite(STDERR, "error $code: " . var_export($message, true) . "\n");
    exit(1);
};
$options['consumer'] = $mode === 'fork' ? 'fork_curl' : 'lib_curl';
$options['compress_request'] = $mode === 'gzip';
if ($mode === 'single') {
    $options['flush_at'] = 1;
    $options['batch_size'] = 1;
}
$client = class_exists('Segment\\Client') ? new Segment\Client($key, $options) : new Segment_Client($key, $options);
$said = fn (string $call): array => [
    'userId' => "user-$run",
    'anonymousId' => "anon-$run",
    'messageId' => "$run-$call",
    'timestamp' => 1767323045,
    'context' => ['ip' => '203.0.113.7', 'locale' => 'nl-NL', 'campaign' => ['name' => 'spring', 'source' => 'news']],
    'integrations' => ['All' => true, 'Mixpanel' => false, 'Amplitude' => ['session_id' => 1767323045678]],
];
$traits = ['name' => 'Zoë Ångström ☕', 'email' => 'zoe@example.com', 'age' => 36, 'address' => ['city' => 'Gent', 'zip' => null]];
$order = ['revenue' => 42.5, 'currency' => 'EUR', 'products' => [['sku' => 'a-1', 'n' => 2]], 'gift' => true];
$client->identify($said('identify') + ['traits' => $traits]);
$client->track($said('track') + ['event' => 'Order Completed 🎉', 'properties' => $order]);
$client->page($said('page') + ['category' => 'Docs', 'name' => 'Home', 'properties' => ['path' => '/docs', 'title' => 'A "quoted" \\ title']]);
$client->screen($said('screen') + ['category' => 'App', 'name' => 'Start', 'properties' => ['build' => 7]]);
$client->group($said('group') + ['groupId' => "group-$run", 'traits' => ['plan' => 'pro', 'employees' => 12]]);
$client->alias($said('alias') + ['previousId' => "before-$run"]);
$client->track(['userId' => "user-$run", 'event' => 'Plain']);
$client->flush();
