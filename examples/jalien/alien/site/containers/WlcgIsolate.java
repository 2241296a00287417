package alien.site.containers;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

import org.json.simple.JSONArray;
import org.json.simple.JSONObject;
import org.json.simple.parser.JSONParser;
import org.json.simple.parser.ParseException;

/**
 * Containers for payloads, decided on by wlcg_isolate.
 *
 * The job agent keeps its own handling of processes: it is given a command and an environment, starts them itself, and
 * asks for the outcome once the process has ended. Nothing passes through a shell as text, and no plan through a file:
 * both would show the payload's variables to others.
 */
public final class WlcgIsolate {

    /** Exit status of a plan that would be refused. */
    private static final int REFUSED = 125;

    private final List<String> program;

    /**
     * @param program how the command line is called, with options for all payloads such as --experiment alice
     */
    public WlcgIsolate(final List<String> program) {
        this.program = List.copyOf(program);
    }

    /** A payload that can be started. */
    public static final class Container {
        private final JSONObject plan;

        private Container(final JSONObject plan) {
            this.plan = plan;
        }

        /** The plan, as plan.schema.json describes it. */
        public JSONObject plan() {
            return plan;
        }

        /** The payload's identity in all records, for the job's trace. */
        public String traceId() {
            return (String) plan.get("trace_id");
        }

        /** What to start, with exactly its environment. The agent adds its own streams. */
        public ProcessBuilder containerize() {
            final JSONObject supervised = (JSONObject) plan.get("supervised");
            final List<String> argv = new ArrayList<>();
            for (final Object word : (JSONArray) supervised.get("argv"))
                argv.add((String) word);
            final Map<String, String> environ = new HashMap<>();
            for (final Object entry : ((JSONObject) supervised.get("environ")).entrySet()) {
                final Map.Entry<?, ?> pair = (Map.Entry<?, ?>) entry;
                environ.put((String) pair.getKey(), (String) pair.getValue());
            }
            final ProcessBuilder builder = new ProcessBuilder(argv);
            builder.environment().clear();
            builder.environment().putAll(environ);
            return builder;
        }
    }

    /** The payload is refused on this node; the message has one line for each reason. */
    public static final class RefusedException extends Exception {
        private static final long serialVersionUID = 1L;

        private RefusedException(final String message) {
            super(message);
        }
    }

    /**
     * Decide how a payload runs on this node.
     *
     * @param request what request.schema.json describes
     * @throws RefusedException there is no isolated way; do not run it in any other
     */
    public Container plan(final JSONObject request) throws IOException, InterruptedException, RefusedException {
        final Answer answer = ask(List.of("plan", "--request", "-", "--json"), request.toJSONString());
        if (answer.status == REFUSED)
            throw new RefusedException(answer.errors);
        return new Container(answer.json());
    }

    /**
     * Tell what became of a payload, and write its records.
     *
     * @param container the payload, which has ended
     * @param status what waitFor gave
     * @return what outcome.schema.json describes
     */
    public JSONObject outcome(final Container container, final int status) throws IOException, InterruptedException {
        final List<String> words = List.of("outcome", "--plan", "-", "--exit-code", Integer.toString(status));
        return ask(words, container.plan.toJSONString()).json();
    }

    private static final class Answer {
        private final int status;
        private final String text;
        private final String errors;

        private Answer(final int status, final String text, final String errors) {
            this.status = status;
            this.text = text;
            this.errors = errors;
        }

        private JSONObject json() throws IOException {
            if (status != 0)
                throw new IOException("wlcg-isolate ended with status " + status + ": " + errors);
            try {
                return (JSONObject) new JSONParser().parse(text);
            }
            catch (final ParseException e) {
                throw new IOException("the answer of wlcg-isolate is not JSON", e);
            }
        }
    }

    private Answer ask(final List<String> words, final String input) throws IOException, InterruptedException {
        final List<String> argv = new ArrayList<>(program.subList(0, 1));
        argv.add(words.get(0));
        // Only a plan takes the options for all payloads; an outcome is asked of a plan that has them.
        if (words.get(0).equals("plan"))
            argv.addAll(program.subList(1, program.size()));
        argv.addAll(words.subList(1, words.size()));
        final Process process = new ProcessBuilder(argv).start();
        final StringBuffer errors = new StringBuffer();
        final Thread reader = new Thread(() -> errors.append(read(process.getErrorStream())));
        reader.start();
        try (OutputStream stdin = process.getOutputStream()) {
            stdin.write(input.getBytes(StandardCharsets.UTF_8));
        }
        catch (final IOException e) {
            // It has ended before; its own words tell why.
            errors.append(e.getMessage()).append('\n');
        }
        final String text = read(process.getInputStream());
        reader.join();
        return new Answer(process.waitFor(), text, errors.toString());
    }

    private static String read(final InputStream stream) {
        try {
            return new String(stream.readAllBytes(), StandardCharsets.UTF_8);
        }
        catch (final IOException e) {
            return e.toString();
        }
    }
}
