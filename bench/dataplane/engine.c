/* The engine side of the data-plane bench: one thread that answers as a vLLM instance does on the wire, and costs
 * next to nothing. Every port is an instance of its own.
 *
 *   engine --interval-ms 20 PORT...
 *
 * A chat or completion request is answered at once with about 1 KB of JSON; with "stream": true as SSE events, the first
 * at once, then "max_tokens" of them, one per interval; each carries in its text the clock at which it was written, so that
 * the client can tell how long it was under way. "do_remote_decode": true is answered with kv_transfer_params. GET /stats
 * tells what happened here.
 */
#include "load.h"

enum { READ_SIZE = 65536, DEFAULT_TOKENS = 16 };

struct instance {
    int fd, port;
    uint64_t requests;
};

struct connection {
    int fd; /* -1: closed, freed after the present batch of events */
    struct instance *instance;
    struct buffer in, out; /* out: what the socket did not take yet */
    bool streaming, wants_usage, wants_token_ids;
    int tokens, sent;
    struct timer timer;
    struct connection *next_closed;
};

static struct {
    int epoll_fd;
    int64_t interval_ns;
    struct wheel wheel;
    struct connection *closed;
    struct instance *instances;
    int instance_count;
    uint64_t requests, streams, events, aborted, prefill_legs, decode_legs;
} engine;

static const char EVENT_HEAD[] =
    "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
    "\"model\":\"bench\",\"choices\":[{\"index\":0,\"delta\":{";
static const char USAGE_EVENT[] =
    "data: {\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,"
    "\"model\":\"bench\",\"choices\":[],\"usage\":{\"prompt_tokens\":250,\"total_tokens\":%d,\"completion_tokens\":%d}}\n\n";

static void connection_close(struct connection *c) {
    if (c->fd < 0) return;
    if (c->streaming) engine.aborted++;
    timer_disarm(&engine.wheel, &c->timer);
    close(c->fd);
    c->fd = -1;
    c->next_closed = engine.closed;
    engine.closed = c;
}

static void connection_write(struct connection *c, const char *bytes, size_t length) {
    if (c->fd < 0) return;
    ssize_t taken = 0;
    if (c->out.length == 0) {
        taken = send(c->fd, bytes, length, MSG_NOSIGNAL);
        if (taken < 0) {
            if (errno != EAGAIN) { connection_close(c); return; }
            taken = 0;
        }
    }
    if ((size_t)taken == length) return;
    if (c->out.length == 0) watch(engine.epoll_fd, EPOLL_CTL_MOD, c->fd, EPOLLIN | EPOLLOUT, c);
    buffer_append(&c->out, bytes + taken, length - (size_t)taken);
}

static void connection_flush(struct connection *c) {
    ssize_t taken = send(c->fd, c->out.bytes, c->out.length, MSG_NOSIGNAL);
    if (taken < 0) {
        if (errno != EAGAIN) connection_close(c);
        return;
    }
    buffer_drop_front(&c->out, (size_t)taken);
    if (c->out.length == 0) watch(engine.epoll_fd, EPOLL_CTL_MOD, c->fd, EPOLLIN, c);
}

static void answer(struct connection *c, const char *status, const char *type, const char *body, size_t length) {
    char head[256];
    int head_length = snprintf(head, sizeof head, "HTTP/1.1 %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n", status, type, length);
    struct buffer whole = {0};
    buffer_append(&whole, head, (size_t)head_length);
    buffer_append(&whole, body, length);
    connection_write(c, whole.bytes, whole.length);
    free(whole.bytes);
}

static void answer_json(struct connection *c, const char *body) { answer(c, "200 OK", "application/json", body, strlen(body)); }

/* ---- JSON, as far as the bench's own bodies need it ---- */

static const char *json_value(const char *body, size_t length, const char *quoted_key) {
    const char *found = memmem(body, length, quoted_key, strlen(quoted_key));
    if (!found) return NULL;
    found += strlen(quoted_key);
    while (found < body + length && (*found == ' ' || *found == ':')) found++;
    return found < body + length ? found : NULL;
}

static bool json_true(const char *body, size_t length, const char *quoted_key) {
    const char *value = json_value(body, length, quoted_key);
    return value && (size_t)(body + length - value) >= 4 && memcmp(value, "true", 4) == 0;
}

/* ---- streams ---- */

static int write_chunk(char *to, const char *payload, int length) {
    int used = sprintf(to, "%x\r\n", length);
    memcpy(to + used, payload, (size_t)length);
    memcpy(to + used + length, "\r\n", 2);
    return used + length + 2;
}

static void stream_event(void *owner) {
    struct connection *c = owner;
    char event[1024], wire[2560];
    int length = sizeof EVENT_HEAD - 1, used;
    bool last = ++c->sent == c->tokens;
    memcpy(event, EVENT_HEAD, (size_t)length);
    length += sprintf(event + length, "\"content\":\" %lld\"},\"logprobs\":null,\"finish_reason\":%s", (long long)now_ns(), last ? "\"length\"" : "null");
    if (c->wants_token_ids) length += sprintf(event + length, ",\"token_ids\":[%d]", 1000 + c->sent);
    length += sprintf(event + length, "}]}\n\n");
    used = write_chunk(wire, event, length);
    engine.events++;
    if (last) {
        if (c->wants_usage) {
            length = sprintf(event, USAGE_EVENT, 250 + c->tokens, c->tokens);
            used += write_chunk(wire + used, event, length);
            engine.events++;
        }
        used += write_chunk(wire + used, "data: [DONE]\n\n", 14);
        used += sprintf(wire + used, "0\r\n\r\n");
        c->streaming = false;
    } else {
        /* From the due time, not from now: being late once must not slow the stream down. */
        timer_arm(&engine.wheel, &c->timer, c->timer.due_ns + engine.interval_ns);
    }
    connection_write(c, wire, (size_t)used);
}

static void stream_begin(struct connection *c) {
    char event[1024], wire[1536];
    int used = sprintf(wire, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n");
    int length = sizeof EVENT_HEAD - 1;
    memcpy(event, EVENT_HEAD, (size_t)length);
    length += sprintf(event + length, "\"role\":\"assistant\",\"content\":\"\"},\"logprobs\":null,\"finish_reason\":null}]}\n\n");
    used += write_chunk(wire + used, event, length);
    c->streaming = true;
    c->sent = 0;
    engine.streams++;
    engine.events++;
    timer_arm(&engine.wheel, &c->timer, now_ns() + engine.interval_ns);
    connection_write(c, wire, (size_t)used);
}

/* ---- requests ---- */

static void answer_completion(struct connection *c, bool prefill_leg) {
    static char text[641];
    if (!text[0])
        for (size_t i = 0; i + 1 < sizeof text; i++) text[i] = i % 6 == 5 ? ' ' : (char)('a' + i * 7 % 26);
    char body[2048], params[512] = "null";
    if (prefill_leg)
        snprintf(params, sizeof params,
                 "{\"do_remote_prefill\":true,\"do_remote_decode\":false,\"remote_block_ids\":[[%llu,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16]],"
                 "\"remote_engine_id\":\"0123456789abcdef\",\"remote_request_id\":\"chatcmpl-%llu\",\"remote_host\":\"127.0.0.1\","
                 "\"remote_port\":5600,\"tp_size\":1}",
                 (unsigned long long)engine.requests, (unsigned long long)engine.requests);
    snprintf(body, sizeof body,
             "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"bench\","
             "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"%s\",\"refusal\":null,\"tool_calls\":[]},\"logprobs\":null,"
             "\"finish_reason\":\"length\",\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":250,\"total_tokens\":266,\"completion_tokens\":16,"
             "\"prompt_tokens_details\":null},\"prompt_logprobs\":null,\"kv_transfer_params\":%s}",
             prefill_leg ? "a" : text, params);
    answer_json(c, body);
}

static void answer_metrics(struct connection *c) {
    static const char body[] =
        "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{engine=\"0\",model_name=\"bench\"} 8.0\n"
        "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{engine=\"0\",model_name=\"bench\"} 0.0\n"
        "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{engine=\"0\",model_name=\"bench\"} 0.25\n"
        "# TYPE vllm:prefix_cache_queries counter\nvllm:prefix_cache_queries_total{engine=\"0\",model_name=\"bench\"} 1000.0\n"
        "# TYPE vllm:prefix_cache_hits counter\nvllm:prefix_cache_hits_total{engine=\"0\",model_name=\"bench\"} 500.0\n"
        "# TYPE vllm:num_preemptions counter\nvllm:num_preemptions_total{engine=\"0\",model_name=\"bench\"} 0.0\n"
        "# TYPE vllm:prompt_tokens counter\nvllm:prompt_tokens_total{engine=\"0\",model_name=\"bench\"} 1000.0\n"
        "# TYPE vllm:generation_tokens counter\nvllm:generation_tokens_total{engine=\"0\",model_name=\"bench\"} 1000.0\n"
        "# TYPE vllm:cache_config_info gauge\n"
        "vllm:cache_config_info{block_size=\"16\",engine=\"0\",num_gpu_blocks=\"100000\",enable_prefix_caching=\"True\"} 1.0\n";
    answer(c, "200 OK", "text/plain; version=0.0.4; charset=utf-8", body, sizeof body - 1);
}

static void answer_stats(struct connection *c) {
    struct buffer body = {0};
    char text[512];
    int length = snprintf(text, sizeof text,
                          "{\"requests\":%llu,\"streams\":%llu,\"events\":%llu,\"aborted\":%llu,\"prefill_legs\":%llu,\"decode_legs\":%llu,\"by_port\":{",
                          (unsigned long long)engine.requests, (unsigned long long)engine.streams, (unsigned long long)engine.events,
                          (unsigned long long)engine.aborted, (unsigned long long)engine.prefill_legs, (unsigned long long)engine.decode_legs);
    buffer_append(&body, text, (size_t)length);
    for (int i = 0; i < engine.instance_count; i++) {
        length = snprintf(text, sizeof text, "%s\"%d\":%llu", i ? "," : "", engine.instances[i].port, (unsigned long long)engine.instances[i].requests);
        buffer_append(&body, text, (size_t)length);
    }
    buffer_append(&body, "}}", 3); /* with the final NUL */
    answer_json(c, body.bytes);
    free(body.bytes);
}

static void serve(struct connection *c, const char *head, size_t head_length, const char *body, size_t body_length) {
    if (head_length > 5 && memcmp(head, "POST ", 5) == 0 && memmem(head, head_length, "completions", 11)) {
        engine.requests++;
        c->instance->requests++;
        bool prefill_leg = json_true(body, body_length, "\"do_remote_decode\"");
        engine.prefill_legs += prefill_leg;
        engine.decode_legs += json_true(body, body_length, "\"do_remote_prefill\"");
        if (!json_true(body, body_length, "\"stream\"")) { answer_completion(c, prefill_leg); return; }
        const char *tokens = json_value(body, body_length, "\"max_completion_tokens\""); /* some routers rename it */
        if (!tokens) tokens = json_value(body, body_length, "\"max_tokens\"");
        c->tokens = tokens ? atoi(tokens) : DEFAULT_TOKENS;
        if (c->tokens < 1) c->tokens = 1;
        c->wants_usage = json_true(body, body_length, "\"include_usage\"");
        c->wants_token_ids = json_true(body, body_length, "\"return_token_ids\"");
        stream_begin(c);
    } else if (memcmp(head, "GET /metrics", 12) == 0) {
        answer_metrics(c);
    } else if (memcmp(head, "GET /stats", 10) == 0) {
        answer_stats(c);
    } else if (memcmp(head, "GET /v1/models", 14) == 0) {
        answer_json(c, "{\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"vllm\",\"root\":\"bench\",\"max_model_len\":131072}]}");
    } else if (memcmp(head, "GET /version", 12) == 0) {
        answer_json(c, "{\"version\":\"0.32.0\"}");
    } else if (memcmp(head, "GET /health", 11) == 0 || memcmp(head, "GET /ping", 9) == 0) {
        answer(c, "200 OK", "text/plain", "", 0);
    } else {
        /* Some routers ask an engine for its kind; a 404 makes them take the plain one. */
        answer(c, "404 Not Found", "application/json", "{}", 2);
    }
}

static void serve_pending(struct connection *c) {
    while (c->fd >= 0 && !c->streaming && c->in.length > 0) {
        const char *end = memmem(c->in.bytes, c->in.length, "\r\n\r\n", 4);
        if (!end) return;
        size_t head_length = (size_t)(end + 4 - c->in.bytes);
        if (header_value(c->in.bytes, head_length, "transfer-encoding")) {
            answer(c, "501 Not Implemented", "application/json", "{}", 2);
            connection_close(c);
            return;
        }
        const char *value = header_value(c->in.bytes, head_length, "content-length");
        size_t body_length = value ? strtoul(value, NULL, 10) : 0;
        if (c->in.length < head_length + body_length) return;
        serve(c, c->in.bytes, head_length, c->in.bytes + head_length, body_length);
        buffer_drop_front(&c->in, head_length + body_length);
    }
}

static void connection_read(struct connection *c) {
    buffer_reserve(&c->in, READ_SIZE / 16);
    ssize_t got = recv(c->fd, c->in.bytes + c->in.length, c->in.capacity - c->in.length, 0);
    if (got == 0 || (got < 0 && errno != EAGAIN)) { connection_close(c); return; }
    if (got > 0) c->in.length += (size_t)got;
    serve_pending(c);
}

static void accept_all(struct instance *instance) {
    for (;;) {
        int fd = accept4(instance->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) return;
        set_nodelay(fd);
        struct connection *c = calloc(1, sizeof *c);
        if (!c) die("calloc");
        c->fd = fd;
        c->instance = instance;
        c->timer.owner = c;
        watch(engine.epoll_fd, EPOLL_CTL_ADD, fd, EPOLLIN, c);
    }
}

static void listen_on(struct instance *instance) {
    int one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)instance->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    instance->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(instance->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(instance->fd, (struct sockaddr *)&address, sizeof address) != 0) die("bind");
    if (listen(instance->fd, 8192) != 0) die("listen");
    watch(engine.epoll_fd, EPOLL_CTL_ADD, instance->fd, EPOLLIN, instance);
}

static bool is_instance(const void *owner) {
    return (const struct instance *)owner >= engine.instances && (const struct instance *)owner < engine.instances + engine.instance_count;
}

static void run(void) {
    struct epoll_event events[512];
    for (;;) {
        int ready = epoll_wait(engine.epoll_fd, events, 512, engine.wheel.armed ? 1 : -1);
        for (int i = 0; i < ready; i++) {
            if (is_instance(events[i].data.ptr)) { accept_all(events[i].data.ptr); continue; }
            struct connection *c = events[i].data.ptr;
            if (c->fd >= 0 && events[i].events & EPOLLOUT) connection_flush(c);
            if (c->fd >= 0 && events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) connection_read(c);
        }
        wheel_turn(&engine.wheel, stream_event);
        while (engine.closed) {
            struct connection *c = engine.closed;
            engine.closed = c->next_closed;
            free(c->in.bytes);
            free(c->out.bytes);
            free(c);
        }
    }
}

int main(int argc, char **argv) {
    if (argc < 4 || strcmp(argv[1], "--interval-ms") != 0) die_usage("usage: engine --interval-ms MS PORT...");
    raise_descriptor_limit();
    signal(SIGPIPE, SIG_IGN);
    engine.interval_ns = (int64_t)(atof(argv[2]) * 1e6);
    engine.epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    engine.instance_count = argc - 3;
    engine.instances = calloc((size_t)engine.instance_count, sizeof *engine.instances);
    wheel_init(&engine.wheel);
    for (int i = 0; i < engine.instance_count; i++) {
        engine.instances[i].port = atoi(argv[3 + i]);
        listen_on(&engine.instances[i]);
    }
    run();
}
