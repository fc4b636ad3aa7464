import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/**
 * Prints where the Java producer puts keys: {@code key in hex, then the partition of 1, 3, 12 and 1000}, for tests/golden/java_partitions.txt.
 *
 * <p>{@code java -cp 'target/tests/kafka/lib/*' tests/kafka/Partitions.java > tests/golden/java_partitions.txt}; needs a JDK, which is why
 * the result is committed.
 */
class Partitions {
    private static final int[] COUNTS = {1, 3, 12, 1000};

    public static void main(String[] arguments) throws Exception {
        System.out.println("# Made by tests/kafka/Partitions.java with kafka-clients 4.1.1: key in hex, then its partition of 1, 3, 12 and 1000.");
        for (byte[] key : keys()) {
            StringBuilder line = new StringBuilder(key.length == 0 ? "-" : HexFormat.of().formatHex(key));
            for (int count : COUNTS) {
                line.append(' ').append(BuiltInPartitioner.partitionForKey(key, count));
            }
            System.out.println(line);
        }
    }

    private static List<byte[]> keys() throws Exception {
        List<byte[]> keys = new ArrayList<>();
        for (String text : new String[] {
            "", "a", "ab", "abc", "abcd", "abcde", "0", "1", "-1", "42", "true", "false", "9223372036854775807", "-9223372036854775808", "1.5", "NaN",
            "delivery-1", "order.1", "ümläut", "日本語", "\uD83D\uDE80", "0199a0c4-7b9c-7c3e-8f3e-3b6f2f1c9a10", "2026-01-02T03:04:05.000006Z", " ", "\0",
        }) {
            keys.add(text.getBytes(StandardCharsets.UTF_8));
        }
        // Every length of tail of the hash, high bytes included: Java's bytes are signed.
        Random random = new Random(1);
        for (int length = 1; length <= 40; length++) {
            byte[] key = new byte[length];
            random.nextBytes(key);
            keys.add(key);
            ByteArrayOutputStream high = new ByteArrayOutputStream();
            for (int i = 0; i < length; i++) {
                high.write(0xff - i);
            }
            keys.add(high.toByteArray());
        }
        return keys;
    }
}
