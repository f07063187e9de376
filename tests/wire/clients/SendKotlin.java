import com.segment.analytics.kotlin.core.*;
import com.segment.analytics.kotlin.core.compat.*;
import java.util.*;
import kotlin.jvm.functions.Function1;
import kotlinx.serialization.json.*;

/**
 * The calls of Segment's Kotlin client (it has no page on the JVM), with everything that a caller may say, and one with
 * nothing but the defaults.
 * Usage: java -cp … SendKotlin HOST KEY MODE RUN, with com.segment.analytics.kotlin:core on the class path.
 * MODE: batched, single. It speaks only TLS: -Djavax.net.ssl.trustStore holds the platform's certificate.
 */
public class SendKotlin {
  static JsonObject json(String text) {
    return (JsonObject) Json.Default.parseToJsonElement(text);
  }

  public static void main(String[] given) throws Exception {
    String host = given[0], key = given[1], mode = given[2], run = given[3];
    Analytics analytics = new Analytics(new ConfigurationBuilder(key).setApplication("app").setApiHost(host + "/v1").setCdnHost(host + "/v1")
        .setFlushAt(mode.equals("single") ? 1 : 20).setFlushInterval(3600).build());
    Function1<String, Function1<BaseEvent, BaseEvent>> said = call -> event -> {
      if (event == null) return null; // an event that a plugin stopped
      event.setMessageId(run + "-" + call);
      event.setTimestamp("2026-01-02T03:04:05.678Z");
      Map<String, JsonElement> context = new LinkedHashMap<>(event.getContext());
      context.putAll(json("{\"ip\": \"203.0.113.7\", \"locale\": \"nl-NL\", \"campaign\": {\"name\": \"spring\"}}"));
      event.setContext(new JsonObject(context));
      event.setIntegrations(json("{\"All\": true, \"Mixpanel\": false}"));
      return event;
    };
    analytics.identify("user-" + run, json(
        "{\"name\": \"Zoë Ångström ☕\", \"email\": \"zoe@example.com\", \"age\": 36, \"address\": {\"city\": \"Gent\", \"zip\": null}}"),
        said.invoke("identify"));
    analytics.track("Order Completed 🎉", json(
        "{\"revenue\": 42.5, \"currency\": \"EUR\", \"products\": [{\"sku\": \"a-1\", \"n\": 2}], \"gift\": true}"), said.invoke("track"));
    analytics.screen("Start", json("{\"build\": 7}"), "App", said.invoke("screen"));
    analytics.group("group-" + run, json("{\"plan\": \"pro\", \"employees\": 12}"), said.invoke("group"));
    analytics.alias("new-" + run, said.invoke("alias"));
    analytics.track("Plain");
    JavaAnalytics queue = new JavaAnalytics(analytics);
    Thread.sleep(1500); // its pipeline takes calls in the background, and tells nobody when it has
    for (int tries = 0; tries < 20; tries++) {
      queue.flush();
      Thread.sleep(500);
      if (tries > 3 && queue.pendingUploads().isEmpty()) java.lang.System.exit(0);
    }
    java.lang.System.exit(1);
  }
}
