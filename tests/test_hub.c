/* test_hub.c - downloads from a hub that runs in this process: redirects, ranges, checksums, and everything that breaks.
 *
 * Two servers, as the hub and the host of its large files are two. The hub answers config.json itself and redirects
 * model.safetensors to the other one, which can be told to misbehave.
 */
#include "base/file.h"
#include "base/folder.h"
#include "weights/hub_cache.h"

#include "weights_check.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

static const char config_text[] = "{\"architecture\": \"dla46_c\", \"num_classes\": 10}\n";
static const char config_checksum[] = "cf88995a4ae9ef741f067dc7699d450b9f090fe8";
static const char commit[] = "0123456789abcdef0123456789abcdef01234567";
static const char weights_path[] = SOURCE_ROOT "/models/dla46_c_imagenette.safetensors";

static struct mapped_file weights;
static char weights_checksum[65];
static char home[512];

/* What the servers are told to do, and what they saw. */
static struct {
    int break_after;  /* bytes of the next transfers, then the connection closes */
    int breaks;       /* how many transfers break */
    int busy_answers; /* how many answers are 503 first */
    bool no_ranges;   /* answers 200 with everything */
    bool damaged;     /* one byte is another */
    bool too_long;    /* more bytes than announced */
    bool no_commit;   /* the answer of something that is no hub */
    bool unauthorized, renamed, no_config, only_bin;
    const char *unsafe_etag;
    atomic_int hub_requests, file_requests, range_requests, tokens_at_hub, tokens_at_files;
} server;

/* ---- the servers ------------------------------------------------------------------------------------------------------- */

struct listener {
    int socket, port;
    bool is_hub;
    pthread_t thread;
};
static struct listener hub, files;

static void send_all(int connection, const void *bytes, size_t size)
{
    const char *at = bytes;
    while (size > 0) {
        ssize_t sent = send(connection, at, size, MSG_NOSIGNAL);
        if (sent <= 0)
            return;
        at += sent;
        size -= (size_t)sent;
    }
}

__attribute__((format(printf, 2, 3))) static void send_text(int connection, const char *format, ...)
{
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    send_all(connection, text, (size_t)length);
}

static void answer_hub(int connection, const char *path, bool head)
{
    const char *file = strrchr(path, '/') + 1;

    server.hub_requests++;
    if (server.busy_answers > 0) {
        server.busy_answers--;
        send_text(connection, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    } else if (server.unauthorized) {
        send_text(connection, "HTTP/1.1 401 Unauthorized\r\nX-Error-Code: GatedRepo\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    } else if (server.no_commit) {
        send_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n%s", head ? "" : "hello");
    } else if (server.renamed && strstr(path, "/old-name/") != NULL) {
        send_text(connection,
                  "HTTP/1.1 307 Moved\r\nLocation: /timm/dla46_c.in1k/resolve/%s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
                  strstr(path, "resolve/") + strlen("resolve/"));
    } else if (strstr(path, "/absent/") != NULL) {
        send_text(connection, "HTTP/1.1 404 Not Found\r\nX-Error-Code: RepoNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    } else if (strstr(path, "/resolve/main/") == NULL && strstr(path, commit) == NULL) {
        send_text(connection, "HTTP/1.1 404 Not Found\r\nX-Error-Code: RevisionNotFound\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    } else if (strcmp(file, "config.json") == 0 && !server.no_config) {
        send_text(
            connection, "HTTP/1.1 200 OK\r\nETag: W/\"%s\"\r\nX-Repo-Commit: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
            server.unsafe_etag != NULL ? server.unsafe_etag : config_checksum, commit, sizeof(config_text) - 1, head ? "" : config_text);
    } else if (strcmp(file, server.only_bin ? "pytorch_model.bin" : "model.safetensors") == 0) {
        send_text(connection,
                  "HTTP/1.1 302 Found\r\nX-Linked-Etag: \"%s\"\r\nX-Linked-Size: %zu\r\nX-Repo-Commit: %s\r\nETag: \"other\"\r\n"
                  "Location: http://127.0.0.1:%d/blob?signature=x\r\nContent-Length: 4\r\nConnection: close\r\n\r\n%s",
                  weights_checksum, weights.size, commit, files.port, head ? "" : "away");
    } else {
        send_text(
            connection,
            "HTTP/1.1 404 Not Found\r\nX-Error-Code: EntryNotFound\r\nX-Repo-Commit: %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            commit);
    }
}

static void answer_files(int connection, const char *range)
{
    size_t start = 0, size = weights.size;
    uint8_t *copy;

    server.file_requests++;
    if (range != NULL) {
        server.range_requests++;
        if (!server.no_ranges)
            start = (size_t)strtoull(range, NULL, 10);
    }
    if (start >= size) {
        send_text(connection, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    }
    if (start > 0)
        send_text(connection, "HTTP/1.1 206 Partial\r\nContent-Range: bytes %zu-%zu/%zu\r\n", start, size - 1, size);
    else
        send_text(connection, "HTTP/1.1 200 OK\r\n");
    if (server.too_long)
        send_text(connection, "Connection: close\r\n\r\n"); /* no length: whatever comes is the file */
    else
        send_text(connection, "Content-Length: %zu\r\nConnection: close\r\n\r\n", size - start);
    copy = malloc(size + 1);
    memcpy(copy, weights.bytes, size);
    copy[size] = 0;
    if (server.damaged)
        copy[size / 2] ^= 1;
    size_t length = size - start + server.too_long;
    if (server.breaks > 0) {
        server.breaks--;
        length = length < (size_t)server.break_after ? length : (size_t)server.break_after;
    }
    send_all(connection, copy + start, length);
    free(copy);
}

static void answer(const struct listener *listener, int connection)
{
    char request[8192] = "", method[8], path[1024];
    size_t used = 0;

    while (strstr(request, "\r\n\r\n") == NULL && used < sizeof(request) - 1) {
        ssize_t received = recv(connection, request + used, sizeof(request) - 1 - used, 0);
        if (received <= 0)
            return;
        used += (size_t)received;
        request[used] = '\0';
    }
    if (sscanf(request, "%7s %1023s", method, path) != 2)
        return;
    const char *range = strcasestr(request, "\r\nRange: bytes=");
    bool token = strcasestr(request, "\r\nAuthorization: Bearer secret") != NULL;
    if (listener->is_hub) {
        server.tokens_at_hub += token;
        answer_hub(connection, path, strcmp(method, "HEAD") == 0);
    } else {
        server.tokens_at_files += token;
        answer_files(connection, range != NULL ? range + strlen("\r\nRange: bytes=") : NULL);
    }
}

static void *serve(void *context)
{
    const struct listener *listener = context;
    for (;;) {
        int connection = accept(listener->socket, NULL, NULL);
        if (connection < 0)
            return NULL;
        answer(listener, connection);
        shutdown(connection, SHUT_WR);
        char rest[256];
        while (recv(connection, rest, sizeof(rest), 0) > 0) {
        }
        close(connection);
    }
}

static void listen_on_any_port(struct listener *listener, bool is_hub)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(address);

    listener->is_hub = is_hub;
    listener->socket = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(listener->socket >= 0);
    assert_int_equal(bind(listener->socket, (struct sockaddr *)&address, size), 0);
    assert_int_equal(listen(listener->socket, 16), 0);
    assert_int_equal(getsockname(listener->socket, (struct sockaddr *)&address, &size), 0);
    listener->port = ntohs(address.sin_port);
    assert_int_equal(pthread_create(&listener->thread, NULL, serve, listener), 0);
}

/* ---- each test starts with an empty cache and well-behaved servers ------------------------------------------------------- */

static int remove_home(void)
{
    char command[600];
    snprintf(command, sizeof(command), "rm -rf '%s'", home);
    return system(command);
}

static int start_test(void **state)
{
    (void)state;
    memset(&server, 0, sizeof(server));
    unsetenv("HF_TOKEN");
    unsetenv("HF_TOKEN_PATH");
    unsetenv("HF_HUB_OFFLINE");
    return remove_home();
}

static int start_servers(void **state)
{
    char command[700], endpoint[64];

    (void)state;
    assert_ok(file_map(weights_path, &weights));
    snprintf(command, sizeof(command), "sha256sum '%s'", weights_path);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_int_equal(fread(weights_checksum, 1, 64, pipe), 64);
    pclose(pipe);
    listen_on_any_port(&hub, true);
    listen_on_any_port(&files, false);
    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d/", hub.port);
    temporary_path(home, sizeof(home), "hub");
    setenv("HF_ENDPOINT", endpoint, 1);
    setenv("HF_HOME", home, 1);
    unsetenv("HF_HUB_CACHE");
    unsetenv("http_proxy");
    unsetenv("HTTP_PROXY");
    setenv("no_proxy", "127.0.0.1", 1);
    return 0;
}

static int stop_servers(void **state)
{
    (void)state;
    shutdown(hub.socket, SHUT_RDWR);
    shutdown(files.socket, SHUT_RDWR);
    pthread_join(hub.thread, NULL);
    pthread_join(files.thread, NULL);
    close(hub.socket);
    close(files.socket);
    file_unmap(&weights);
    return remove_home();
}

static dla_status pull(const char *name, dla_pulled *pulled)
{
    memset(pulled, 0, sizeof(*pulled));
    return dla_hub_pull(name, NULL, pulled);
}

static void expect_file(const char *path, const void *bytes, size_t size)
{
    struct mapped_file file;
    assert_ok(file_map(path, &file));
    assert_int_equal(file.size, size);
    assert_memory_equal(file.bytes, bytes, size);
    file_unmap(&file);
}

static void expect_pulled(const char *name)
{
    dla_pulled pulled;
    assert_ok(pull(name, &pulled));
    assert_string_equal(pulled.commit, commit);
    expect_file(pulled.weights, weights.bytes, weights.size);
    dla_pulled_clear(&pulled);
}

static void expect_refused(const char *name, dla_status status, const char *message_part)
{
    dla_pulled pulled;
    assert_int_equal(pull(name, &pulled), status);
    assert_message_contains(message_part);
    assert_null(pulled.weights);
}

static char *in_home(char *path, size_t size, const char *rest)
{
    snprintf(path, size, "%s/hub/models--timm--dla46_c.in1k/%s", home, rest);
    return path;
}

static char *blob_path(char *path, size_t size, const char *suffix)
{
    char rest[128];
    snprintf(rest, sizeof(rest), "blobs/%s%s", weights_checksum, suffix);
    return in_home(path, size, rest);
}

/* ---- tests --------------------------------------------------------------------------------------------------------------- */

static void a_pull_fills_the_cache(void **state)
{
    dla_pulled pulled;
    char path[700], target[200] = "", *text;
    size_t length;

    (void)state;
    assert_ok(pull("dla46_c", &pulled));
    assert_string_equal(pulled.repository, "timm/dla46_c.in1k");
    assert_int_equal(pulled.downloaded, (int64_t)(weights.size + sizeof(config_text) - 1));
    assert_string_equal(pulled.weights,
                        in_home(path, sizeof(path), "snapshots/0123456789abcdef0123456789abcdef01234567/model.safetensors"));
    expect_file(pulled.weights, weights.bytes, weights.size);
    expect_file(pulled.config, config_text, sizeof(config_text) - 1);
    assert_true(readlink(pulled.weights, target, sizeof(target) - 1) > 0);
    assert_non_null(strstr(target, "../../blobs/"));
    assert_non_null(strstr(target, weights_checksum));
    assert_ok(file_read_text(in_home(path, sizeof(path), "refs/main"), 100, &text, &length));
    assert_string_equal(text, commit);
    dla_free(text);
    assert_int_equal(access(blob_path(path, sizeof(path), ".incomplete"), F_OK), -1);
    dla_pulled_clear(&pulled);

    /* the second time only the state is asked for */
    assert_ok(pull("timm/dla46_c.in1k@main", &pulled));
    assert_int_equal(pulled.downloaded, 0);
    assert_int_equal(server.file_requests, 1);
    dla_pulled_clear(&pulled);
}

static void weights_options_take_hub_names(void **state)
{
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_model *model = NULL;
    dla_weights *opened = NULL;
    int requests;

    (void)state;
    options.weights = "hf-hub:timm/dla46_c.in1k";
    assert_ok(dla_model_open(&options, &model));
    assert_int_equal(dla_model_class_count(model), 10);
    dla_model_close(model);
    requests = server.hub_requests;
    assert_ok(dla_weights_open("hf_hub:dla46_c", &opened)); /* now from the cache, without a question */
    dla_weights_close(opened);
    assert_int_equal(server.hub_requests, requests);
}

static void local_folders_are_searched(void **state)
{
    dla_model_options options = DLA_MODEL_OPTIONS_INIT;
    dla_model *model = NULL;
    dla_pulled pulled;
    char source[800], folder[700], path[900];

    (void)state;
    assert_ok(pull("dla46_c", &pulled));
    snprintf(folder, sizeof(folder), "%s", pulled.weights);
    *strrchr(folder, '/') = '\0';
    snprintf(source, sizeof(source), "local-dir:%s", folder);
    options.weights = source;
    assert_ok(dla_model_open(&options, &model));
    dla_model_close(model);
    snprintf(source, sizeof(source), "local-dir:%s", home);
    model = NULL;
    assert_int_equal(dla_model_open(&options, &model), DLA_ERROR_NOT_FOUND);
    assert_message_contains("the folder has no weights");
    snprintf(path, sizeof(path), "%s/a.pth", home);
    assert_ok(file_write(path, weights.bytes, weights.size));
    assert_ok(dla_model_open(&options, &model));
    dla_model_close(model);
    snprintf(path, sizeof(path), "%s/b.pth", home);
    assert_ok(file_write(path, weights.bytes, weights.size));
    assert_int_equal(dla_model_open(&options, &model), DLA_ERROR_ARGUMENT);
    assert_message_contains("several files could be the weights");
    dla_pulled_clear(&pulled);
}

static void the_token_stays_with_the_hub(void **state)
{
    (void)state;
    setenv("HF_TOKEN", "secret", 1);
    expect_pulled("dla46_c");
    assert_true(server.tokens_at_hub > 0);
    assert_int_equal(server.tokens_at_hub, server.hub_requests);
    assert_true(server.file_requests > 0);
    assert_int_equal(server.tokens_at_files, 0);
    setenv("HF_TOKEN", "secret\r\nX-Evil: 1", 1);
    expect_refused("dla46_c", DLA_ERROR_ARGUMENT, "HF_TOKEN");
}

static void a_token_may_lie_in_a_file(void **state)
{
    char path[600];

    (void)state;
    mkdir(home, 0700);
    snprintf(path, sizeof(path), "%s/token", home);
    assert_ok(file_write(path, "secret\n", 7));
    expect_pulled("dla46_c");
    assert_int_equal(server.tokens_at_hub, server.hub_requests);
}

static void broken_transfers_go_on(void **state)
{
    (void)state;
    server.break_after = 300000;
    server.breaks = 4;
    expect_pulled("dla46_c");
    assert_int_equal(server.file_requests, 5);
    assert_int_equal(server.range_requests, 4);
}

static void a_transfer_that_never_gets_anywhere_ends(void **state)
{
    char path[700];

    (void)state;
    server.break_after = 0;
    server.breaks = 1000;
    expect_refused("dla46_c", DLA_ERROR_IO, "127.0.0.1");
    assert_int_equal(server.file_requests, 6);
    assert_int_equal(access(blob_path(path, sizeof(path), ""), F_OK), -1);
    expect_refused("hf/../../x", DLA_ERROR_ARGUMENT, "names no repository");
}

/* What an earlier, interrupted run left is used. */
static void an_interrupted_download_goes_on(void **state)
{
    char path[700];

    (void)state;
    assert_ok(folder_make(in_home(path, sizeof(path), "blobs")));
    assert_ok(file_write(blob_path(path, sizeof(path), ".incomplete"), weights.bytes, 1000000));
    expect_pulled("dla46_c");
    assert_int_equal(server.range_requests, 1);
    assert_int_equal(server.file_requests, 1);
}

static bool stop_halfway(void *context, const char *file, int64_t done, int64_t total)
{
    (void)context;
    return strcmp(file, "model.safetensors") != 0 || done < total / 2;
}

static void progress_can_stop_it(void **state)
{
    dla_pull_options options = DLA_PULL_OPTIONS_INIT;
    dla_pulled pulled = {0};
    struct stat info;
    char path[700];

    (void)state;
    options.progress = stop_halfway;
    assert_int_equal(dla_hub_pull("dla46_c", &options, &pulled), DLA_ERROR_INTERRUPTED);
    assert_message_contains("the next pull goes on");
    assert_int_equal(stat(blob_path(path, sizeof(path), ".incomplete"), &info), 0);
    assert_true(info.st_size > 0);
    expect_pulled("dla46_c");
    assert_int_equal(server.range_requests, 1);
}

static void a_server_without_ranges_starts_anew(void **state)
{
    char path[700];

    (void)state;
    assert_ok(folder_make(in_home(path, sizeof(path), "blobs")));
    assert_ok(file_write(blob_path(path, sizeof(path), ".incomplete"), weights.bytes, 1000000));
    server.no_ranges = true;
    expect_pulled("dla46_c");
}

static void damaged_bytes_are_noticed(void **state)
{
    char path[700];

    (void)state;
    server.damaged = true;
    expect_refused("dla46_c", DLA_ERROR_FORMAT, "but the hub says");
    assert_int_equal(access(blob_path(path, sizeof(path), ""), F_OK), -1);
    assert_int_equal(access(blob_path(path, sizeof(path), ".incomplete"), F_OK), -1);
    server.damaged = false;
    expect_pulled("dla46_c");

    server.unsafe_etag = "ffffffffffffffffffffffffffffffffffffffff"; /* config.json has another checksum */
    expect_refused("dla46_c", DLA_ERROR_FORMAT, "but the hub says");
}

static void more_bytes_than_announced_are_refused(void **state)
{
    (void)state;
    server.too_long = true;
    expect_refused("dla46_c", DLA_ERROR_FORMAT, "more than the announced");
}

static void a_busy_hub_is_asked_again(void **state)
{
    (void)state;
    server.busy_answers = 3;
    expect_pulled("dla46_c");
    server.busy_answers = 1000;
    expect_refused("dla46_c", DLA_ERROR_IO, "HTTP 503");
}

static void refusals_are_explained(void **state)
{
    (void)state;
    server.unauthorized = true;
    expect_refused("dla46_c", DLA_ERROR_IO, "needs a token");
    server.unauthorized = false;
    expect_refused("timm/absent", DLA_ERROR_IO, "the hub has no repository timm/absent");
    expect_refused("dla46_c@v9", DLA_ERROR_IO, "has no revision 'v9'");
    server.no_commit = true;
    expect_refused("dla46_c", DLA_ERROR_FORMAT, "the answer is not the hub's");
}

static void names_cannot_leave_the_cache(void **state)
{
    static const char *const names[] = {"../x",        "a/../b", "a/b/c",  "a/.b", "/a",    "a/",     "a b/c",
                                        "a/b@../../x", "a/b@",   "a/b@/x", "",     "a/b\n", "a/b?x=1"};
    char *long_name = malloc(400);

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        dla_pulled pulled;
        assert_int_not_equal(pull(names[i], &pulled), DLA_OK);
    }
    memset(long_name, 'a', 399);
    long_name[100] = '/';
    long_name[399] = '\0';
    expect_refused(long_name, DLA_ERROR_ARGUMENT, "names no repository");
    free(long_name);
    expect_refused("dla35", DLA_ERROR_NOT_FOUND, "dla34");
    assert_int_equal(server.hub_requests, 0);
    server.unsafe_etag = "../../../evil";
    expect_refused("dla46_c", DLA_ERROR_FORMAT, "not the hub's");
}

static void repositories_without_a_config_or_with_pytorch_weights_are_taken(void **state)
{
    dla_pulled pulled;

    (void)state;
    server.no_config = true;
    server.only_bin = true;
    assert_ok(pull("dla46_c", &pulled));
    assert_null(pulled.config);
    assert_non_null(strstr(pulled.weights, "/pytorch_model.bin"));
    dla_pulled_clear(&pulled);
}

static void renamed_repositories_are_found(void **state)
{
    (void)state;
    server.renamed = true;
    expect_pulled("someone/old-name");
}

static void offline_the_cache_is_all(void **state)
{
    dla_pulled pulled;
    int requests;

    (void)state;
    setenv("HF_HUB_OFFLINE", "1", 1);
    expect_refused("dla46_c", DLA_ERROR_NOT_FOUND, "HF_HUB_OFFLINE is set");
    setenv("HF_HUB_OFFLINE", "0", 1);
    expect_pulled("dla46_c");
    requests = server.hub_requests;
    setenv("HF_HUB_OFFLINE", "TRUE", 1);
    assert_ok(pull("dla46_c", &pulled));
    expect_file(pulled.weights, weights.bytes, weights.size);
    assert_int_equal(server.hub_requests, requests);
    dla_pulled_clear(&pulled);
    assert_ok(pull("dla46_c@0123456789abcdef0123456789abcdef01234567", &pulled));
    dla_pulled_clear(&pulled);
}

static void the_environment_moves_the_cache(void **state)
{
    dla_pulled pulled;
    char cache[600];

    (void)state;
    snprintf(cache, sizeof(cache), "%s/elsewhere", home);
    setenv("HF_HUB_CACHE", cache, 1);
    assert_ok(pull("dla46_c", &pulled));
    unsetenv("HF_HUB_CACHE");
    assert_int_equal(strncmp(pulled.weights, cache, strlen(cache)), 0);
    dla_pulled_clear(&pulled);
    setenv("HF_ENDPOINT_SAVED", getenv("HF_ENDPOINT"), 1);
    setenv("HF_ENDPOINT", "ftp://example.org", 1);
    expect_refused("dla46_c", DLA_ERROR_ARGUMENT, "HF_ENDPOINT");
    setenv("HF_ENDPOINT", "http://127.0.0.1:1", 1);
    expect_refused("dla46_c", DLA_ERROR_IO, "127.0.0.1");
    setenv("HF_ENDPOINT", getenv("HF_ENDPOINT_SAVED"), 1);
}

/* Four processes want the same file at once: one downloads, all have it. */
static void processes_share_a_download(void **state)
{
    pid_t children[4];

    (void)state;
    for (int i = 0; i < 4; i++) {
        children[i] = fork();
        if (children[i] == 0) {
            dla_pulled pulled;
            _exit(pull("dla46_c", &pulled) == DLA_OK ? 0 : 1);
        }
    }
    for (int i = 0; i < 4; i++) {
        int result;
        waitpid(children[i], &result, 0);
        assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    }
    assert_int_equal(server.file_requests, 1);
    expect_pulled("dla46_c");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(a_pull_fills_the_cache, start_test),
        cmocka_unit_test_setup(weights_options_take_hub_names, start_test),
        cmocka_unit_test_setup(local_folders_are_searched, start_test),
        cmocka_unit_test_setup(the_token_stays_with_the_hub, start_test),
        cmocka_unit_test_setup(a_token_may_lie_in_a_file, start_test),
        cmocka_unit_test_setup(broken_transfers_go_on, start_test),
        cmocka_unit_test_setup(a_transfer_that_never_gets_anywhere_ends, start_test),
        cmocka_unit_test_setup(an_interrupted_download_goes_on, start_test),
        cmocka_unit_test_setup(progress_can_stop_it, start_test),
        cmocka_unit_test_setup(a_server_without_ranges_starts_anew, start_test),
        cmocka_unit_test_setup(damaged_bytes_are_noticed, start_test),
        cmocka_unit_test_setup(more_bytes_than_announced_are_refused, start_test),
        cmocka_unit_test_setup(a_busy_hub_is_asked_again, start_test),
        cmocka_unit_test_setup(refusals_are_explained, start_test),
        cmocka_unit_test_setup(names_cannot_leave_the_cache, start_test),
        cmocka_unit_test_setup(repositories_without_a_config_or_with_pytorch_weights_are_taken, start_test),
        cmocka_unit_test_setup(renamed_repositories_are_found, start_test),
        cmocka_unit_test_setup(offline_the_cache_is_all, start_test),
        cmocka_unit_test_setup(the_environment_moves_the_cache, start_test),
        cmocka_unit_test_setup(processes_share_a_download, start_test),
    };
    dla_pulled pulled;
    setenv("HF_ENDPOINT", "ftp://none", 1);
    if (dla_hub_pull("dla46_c", NULL, &pulled) == DLA_ERROR_UNSUPPORTED) {
        print_message("built without the hub: nothing to test\n");
        return 0;
    }
    return cmocka_run_group_tests(tests, start_servers, stop_servers);
}
