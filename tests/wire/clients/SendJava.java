import com.segment.analytics.Analytics;
import com.segment.analytics.Callback;
import com.segment.analytics.messages.*;
import java.util.*;
import java.util.concurrent.*;

/**
 * All six calls with everything that a caller may say, and one with nothing but the defaults, by Segment's Java client.
 * Usage: java -cp … SendJava.java URL KEY MODE RUN, with com.segment.analytics.java:analytics on the class path.
 * MODE: batched, single.
 */
public class SendJava {
  static String run;

  static <T extends Message, B extends MessageBuilder<T, B>> B said(String call, MessageBuilder<T, B> builder) {
    @SuppressWarnings("unchecked") B it = (B) builder;
    it.userId("user-" + run).messageId(run + "-" + call).timestamp(new Date(1767323045678L));
    if (!call.equals("alias")) it.anonymousId("anon-" + run);
    it.context(Map.of("ip", "203.0.113.7", "locale", "nl-NL", "campaign", Map.of("name", "spring", "source", "news")));
    it.enableIntegration("All", true).enableIntegration("Mixpanel", false);
    it.integrationOptions("Amplitude", Map.of("session_id", 1767323045678L));
    return it;
  }

  public static void main(String[] given) throws Exception {
    String mode = given[2];
    run = given[3];
    CountDownLatch open = new CountDownLatch(7);
    List<Throwable> failed = new CopyOnWriteArrayList<>();
    Analytics analytics = Analytics.builder(given[1]).endpoint(given[0]).flushInterval(2, TimeUnit.SECONDS)
        .flushQueueSize(mode.equals("single") ? 1 : 250)
        .callback(new Callback() {
          public void success(Message message) { open.countDown(); }
          public void failure(Message message, Throwable error) { failed.add(error); open.countDown(); }
        }).build();
    Map<String, Object> address = new HashMap<>();
    address.put("city", "Gent");
    address.put("zip", null);
    Map<String, Object> traits = Map.of("name", "Zoë Ångström ☕", "email", "zoe@example.com", "age", 36, "address", address);
    Map<String, Object> order = Map.of("revenue", 42.5, "currency", "EUR", "gift", true,
        "when", new Date(1767323045678L), "products", List.of(Map.of("sku", "a-1", "n", 2)));
    analytics.enqueue(said("identify", IdentifyMessage.builder().traits(traits)));
    analytics.enqueue(said("track", TrackMessage.builder("Order Completed 🎉").properties(order)));
    analytics.enqueue(said("page", PageMessage.builder("Home").properties(Map.of("path", "/docs", "title", "A \"quoted\" \\ <title>"))));
    analytics.enqueue(said("screen", ScreenMessage.builder("Start").properties(Map.of("build", 7))));
    analytics.enqueue(said("group", GroupMessage.builder("group-" + run).traits(Map.of("plan", "pro", "employees", 12))));
    analytics.enqueue(said("alias", AliasMessage.builder("before-" + run)));
    analytics.enqueue(TrackMessage.builder("Plain").userId("user-" + run));
    analytics.flush();
    boolean all = open.await(60, TimeUnit.SECONDS);
    analytics.shutdown();
    for (Throwable error : failed) error.printStackTrace();
    System.exit(all && failed.isEmpty() ? 0 : 1);
  }
}
