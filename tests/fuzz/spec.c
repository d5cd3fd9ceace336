/* SPDX-License-Identifier: Apache-2.0 */
/* What `dvs run` asks for, as dvkd checks it: each refusal has its reason. */
#include "common/cleanup.h"
#include "dvkd/config.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    json_error_t error;
    struct failure failure = {0};
    cleanup_json json_t *spec = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, &error);
    if (!spec)
        return 0;
    int result = config_check_spec(spec, &failure);
    MUST(result == 0 || (failure.code[0] && failure.message[0]));
    if (result == 0) {
        MUST(json_array_size(json_object_get(spec, "argv")) > 0);
        MUST(json_is_string(json_object_get(spec, "image")) && json_is_string(json_object_get(spec, "place")));
    }
    return 0;
}
