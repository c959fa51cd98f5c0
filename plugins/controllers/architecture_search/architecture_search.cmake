# The published table of cells is read as tables of data are.
target_link_libraries(architecture_search PRIVATE espalier_datasets)
