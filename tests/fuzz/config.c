/* SPDX-License-Identifier: Apache-2.0 */
/* A snapshot of the configuration and changes to it, as JSON: what is taken can be sent on, and means the same there. */
#include "common/cleanup.h"
#include "dvkd/config.h"
#include "input.h"

/* The first line is a snapshot, the others are changes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct config *config = NULL, *copy = NULL;
    const uint8_t *end = memchr(data, '\n', size);
    size_t len = end ? (size_t)(end - data) : size;
    json_error_t error;
    cleanup_json json_t *snapshot = json_loadb((const char *)data, len, 0, &error);
    if (!snapshot || config_from_json(snapshot, &config) < 0)
        config = config_new();
    MUST(config);
    while (end) {
        const uint8_t *line = end + 1;
        end = memchr(line, '\n', size - (size_t)(line - data));
        len = end ? (size_t)(end - line) : size - (size_t)(line - data);
        cleanup_json json_t *change = json_loadb((const char *)line, len, 0, &error);
        struct config_effect effect;
        struct failure failure = {0};
        uint64_t epoch = config->epoch;
        int result = change ? config_apply(config, change, &effect, &failure) : -1;
        MUST(config->epoch == epoch + (result == 0));
        MUST(result == 0 || !change || failure.message[0]);
    }
    cleanup_json json_t *json = config_to_json(config);
    MUST(json && config_from_json(json, &copy) == 0);
    MUST(config_digest(copy) == config_digest(config));
    config_free(copy);
    config_free(config);
    return 0;
}
