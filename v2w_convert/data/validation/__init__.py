"""What users' data may be: files, parquet and videos of others, checked before they are decoded.

Every reader of :mod:`v2w_convert.data.formats` opens files through this package. What cannot be right is a
:class:`~v2w_convert.errors.V2WError` that names the file, and the column or field.
"""
