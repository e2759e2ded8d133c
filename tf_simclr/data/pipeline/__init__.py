"""The input pipeline: turns encoded examples into batches for the devices.

    settings      which examples to read, in which order, and which views to make
    stream        the start of training: selects and orders examples (epochs) and groups them
    host_views    the host makes views (ViewBatch) or crops (CropBatch)
    device_crops  or: the host sends whole images (ImageBatch), and the device crops them
    batches       chooses between host_views and device_crops; makes evaluation batches

epochs, groups, undecodable, seeds, batch_spec and service are used by the modules above.
"""
