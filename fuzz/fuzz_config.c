/* fuzz_config.c - config files: whatever is accepted makes a network that can be counted, drawn, written and read again. */
#include <dla/dla.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    dla_architecture architecture, again;
    dla_network *network = NULL;
    dla_census census;
    char *text = NULL, *config = NULL, *config_again = NULL;

    if (dla_architecture_parse_config((const char *)data, size, "fuzz", &architecture) != DLA_OK) {
        require(dla_error_message()[0] != '\0');
        return 0;
    }
    require(dla_architecture_to_config(&architecture, &config) == DLA_OK);
    require(dla_architecture_parse_config(config, strlen(config), "fuzz", &again) == DLA_OK);
    require(dla_architecture_to_config(&again, &config_again) == DLA_OK);
    require(strcmp(config, config_again) == 0);

    require(dla_network_create(&architecture, &network) == DLA_OK);
    dla_status status = dla_network_census(network, 33, 47, &census);
    require(status == DLA_OK || status == DLA_ERROR_LIMIT);
    require(dla_network_to_text(network, &text) == DLA_OK);

    dla_network_destroy(network);
    dla_free(text);
    dla_free(config);
    dla_free(config_again);
    return 0;
}
