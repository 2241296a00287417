import java.io.IOException;
import java.io.OutputStream;
import java.lang.ProcessBuilder.Redirect;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.TimeUnit;

import org.json.simple.JSONArray;
import org.json.simple.JSONObject;

import alien.site.containers.WlcgIsolate;
import alien.site.containers.WlcgIsolate.Container;
import alien.site.containers.WlcgIsolate.RefusedException;

/**
 * What a job agent does for one payload: plan, start, watch, ask what became of it.
 *
 * Usage: RunPayload SECONDS REQUEST-OPTION... -- COMMAND..., with WLCG_ISOLATE naming the program; the payload's
 * token is read from the variable JALIEN_TOKEN and handed over on its standard input.
 */
public final class RunPayload {

    @SuppressWarnings("unchecked")
    public static void main(final String[] args) throws IOException, InterruptedException {
        final List<String> words = Arrays.asList(args);
        final int end = words.indexOf("--");
        final JSONArray command = new JSONArray();
        command.addAll(words.subList(end + 1, words.size()));
        final JSONObject payload = new JSONObject();
        payload.put("command", command);
        final JSONObject identity = new JSONObject();
        identity.put("vo", "alice");
        identity.put("job_id", "2718281828");
        final JSONObject request = new JSONObject();
        request.put("payload", payload);
        request.put("identity", identity);
        for (final String option : words.subList(1, end))
            request.put(option.substring(0, option.indexOf('=')), option.substring(option.indexOf('=') + 1));

        final WlcgIsolate isolate = new WlcgIsolate(List.of(System.getenv("WLCG_ISOLATE"), "--experiment", "alice"));
        final Container container;
        try {
            container = isolate.plan(request);
        }
        catch (final RefusedException e) {
            System.out.println("refused: " + e.getMessage().trim());
            System.exit(1);
            return;
        }
        System.out.println("trace id: " + container.traceId());
        final Process process = container.containerize().redirectOutput(Redirect.INHERIT).redirectError(Redirect.INHERIT).start();
        final String token = System.getenv("JALIEN_TOKEN");
        try (OutputStream stdin = process.getOutputStream()) {
            if (token != null)
                stdin.write(token.getBytes(StandardCharsets.UTF_8));
        }
        catch (final IOException e) {
            System.out.println("the payload takes no token: " + e.getMessage());
        }
        if (!process.waitFor(Long.parseLong(words.get(0)), TimeUnit.SECONDS)) {
            System.out.println("the agent stops it");
            process.destroy();
        }
        System.out.println(isolate.outcome(container, process.waitFor()).toJSONString());
    }

    private RunPayload() {
    }
}
