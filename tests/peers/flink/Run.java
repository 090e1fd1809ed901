import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Iterator;
import org.apache.flink.table.api.EnvironmentSettings;
import org.apache.flink.table.api.TableEnvironment;
import org.apache.flink.types.Row;

/** Runs the statements in a file as Flink's SQL client does, in a cluster within this process; the rows of all queries are shown as they come, a line each. */
public class Run {
    public static void main(String[] arguments) throws Exception {
        TableEnvironment tables = TableEnvironment.create(EnvironmentSettings.inStreamingMode());
        for (String statement : Files.readString(Path.of(arguments[0])).split(";\\s*(\\n|$)")) {
            if (statement.strip().startsWith("SET ")) {
                // The shell's own, not the planner's.
                String[] parts = statement.split("'");
                tables.getConfig().set(parts[1], parts[3]);
                continue;
            }
            Iterator<Row> rows = tables.executeSql(statement).collect();
            if (statement.strip().startsWith("SELECT ")) {
                new Thread(() -> rows.forEachRemaining(System.out::println)).start();
            }
        }
    }
}
