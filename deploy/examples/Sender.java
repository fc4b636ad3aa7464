// Sends events to Iguazu: `java Sender.java URL < events.ndjson`, a JSON event a line; the API key is in IGUAZU_KEY.
// The exit code is 0 when every event was accepted; refused ones are on stderr with the reason. Java 17, no libraries.
import java.net.URI;
import java.net.http.*;
import java.time.Duration;
import java.util.*;
import java.util.regex.*;

public class Sender {
    static final int BATCH = 100; // events of one request
    static final int TRIES = 8; // of one batch, then its events are given up
    static final long PAUSE_MAX = 30_000; // milliseconds between two tries
    /** A result of a reply; a text in it never holds a quote that is not escaped. With a JSON library this is `results[]`. */
    static final Pattern RESULT = Pattern.compile("\\{\"index\":(\\d+)(?:[^\"}]|\"(?:[^\"\\\\]|\\\\.)*\")*\\}");
    static final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
    static HttpRequest.Builder request;
    static int accepted, refused, givenUp;

    public static void main(String[] args) throws Exception {
        request = HttpRequest.newBuilder(URI.create(args[0] + "/v1/events")).timeout(Duration.ofMinutes(1));
        request.header("content-type", "application/x-ndjson");
        var key = System.getenv("IGUAZU_KEY");
        if (key != null) request.header("authorization", "Bearer " + key);
        var batch = new ArrayList<String>();
        for (var input = new Scanner(System.in, "UTF-8"); input.hasNextLine(); ) {
            var event = input.nextLine();
            // Chosen once, before the first try: consumers find what came twice by it. (One of its own would stand first.)
            if (!event.startsWith("{\"id\":")) event = "{\"id\":\"" + UUID.randomUUID() + "\"," + event.substring(1);
            batch.add(event);
            if (batch.size() == BATCH || !input.hasNextLine()) {
                deliver(batch);
                batch.clear();
            }
        }
        System.out.printf("accepted %d, refused %d, given up %d%n", accepted, refused, givenUp);
        System.exit(refused + givenUp == 0 ? 0 : 1);
    }

    /** Sends until nothing is left that may still be accepted, or the tries are used up. */
    static void deliver(List<String> events) throws InterruptedException {
        var left = List.copyOf(events);
        for (int attempt = 0; attempt < TRIES && !left.isEmpty(); attempt++) {
            var again = new ArrayList<String>();
            long wait = tryOnce(left, again);
            left = again;
            if (left.isEmpty() || attempt + 1 == TRIES) break;
            // As long as the proxy asks, and not at the same moment as everybody else.
            long backoff = Math.min(PAUSE_MAX, 200L << attempt);
            Thread.sleep(Math.min(PAUSE_MAX, wait) + (long) (Math.random() * backoff));
        }
        givenUp += left.size();
    }

    /** One request: puts the events to send again into `again`, and says how long to wait before that. */
    static long tryOnce(List<String> events, List<String> again) throws InterruptedException {
        HttpResponse<String> reply;
        try {
            var body = HttpRequest.BodyPublishers.ofString(String.join("\n", events));
            reply = client.send(request.POST(body).build(), HttpResponse.BodyHandlers.ofString());
        } catch (java.io.IOException noReply) {
            again.addAll(events); // They may have been taken, so the same ones go again, with the same ids.
            return 0;
        }
        if (!reply.body().startsWith("{\"events\":")) { // Refused as a whole: nothing was taken.
            if (reply.body().contains("\"retry\":false")) refused += events.size();
            else again.addAll(events);
        } else {
            accepted += events.size();
            for (var result = RESULT.matcher(reply.body()); result.find(); ) {
                var event = events.get(Integer.parseInt(result.group(1)));
                if (!result.group().contains("\"retry\":")) continue; // accepted, with something to say
                accepted--;
                if (result.group().contains("\"retry\":true")) again.add(event);
                else refused++;
                if (result.group().contains("\"retry\":false")) System.err.println(result.group());
            }
        }
        return 1000 * reply.headers().firstValueAsLong("retry-after").orElse(0);
    }
}
